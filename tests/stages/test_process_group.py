"""Two processes train the same student as one, and a run with a killed process can be resumed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from whisperstill.cli.main import main
from whisperstill.console import NullConsole
from whisperstill.distill.metrics import read_metrics
from whisperstill.stages import label
from whisperstill.stages.label import LabelSettings

SOURCE = Path(__file__).resolve().parents[2] / "src"

pytestmark = pytest.mark.usefixtures("one_thread")  # as each of two processes: the number of threads changes rounding


@pytest.fixture(scope="module")
def short_outputs() -> None:
    """Validation decodes as many tokens as the processes under torchrun."""


@pytest.fixture(scope="module")
def labels(small_teacher: Path, small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("ranks") / "labels"
    settings = LabelSettings(
        teacher=str(small_teacher),
        manifest=(str(small_corpus),),
        output=output,
        encoder_states="float32",
        max_new_tokens=12,
        dtype="float32",
    )
    label.run(settings, NullConsole())
    return output


def command(student: Path, labels: Path, output: Path, epochs: int, *more: object) -> list[str]:
    """Arguments of `whisperstill train`."""
    options = {
        "--student": student,
        "--labels": labels,
        "--output": output,
        "--num-train-epochs": epochs,
        "--batch-size": 3,
        "--teacher-targets": "hidden",
        "--dtype": "float32",  # bfloat16 would round more than the tolerance
        "--hidden-loss-weight": 0.1,
        "--warmup-steps": 1,
        "--save-steps": 1,
        "--logging-steps": 1,
        "--learning-rate": 1e-2,
        "--adam-epsilon": 1e-2,  # Adam amplifies gradients that are only rounding
    }
    return ["train", *(str(part) for pair in options.items() for part in pair), *map(str, more)]


def start_two_processes(arguments: list[str]) -> subprocess.Popen[bytes]:
    """Start the training under torchrun."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(SOURCE),
        "WHISPERSTILL_NO_REEXEC": "1",
        "OMP_NUM_THREADS": "1",
    }
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={port}"]
    return subprocess.Popen(
        [sys.executable, *launcher, "-m", "whisperstill", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def train_alone(arguments: list[str]) -> None:
    """Train in this process."""
    assert main(arguments) == 0


def train_in_two_processes(arguments: list[str]) -> None:
    process = start_two_processes(arguments)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output.decode()


def distance(run: Path, other: Path) -> float:
    """The largest difference of two runs' last weights."""
    weights, other_weights = (load_file(path / "model.safetensors") for path in (run, other))
    assert weights.keys() == other_weights.keys()
    return max(float((weights[name] - other_weights[name]).abs().max()) for name in weights)


@pytest.mark.needs("torch.distributed")
def test_two_processes_give_the_weights_of_one(
    small_student: Path, labels: Path, small_corpus: Path, tmp_path: Path
) -> None:
    outputs = [tmp_path / name for name in ("one", "two", "more")]
    validation = ("--validation", small_corpus, "--validation-limit", 4, "--eval-steps", 2)
    for output, run, epochs in zip(outputs, (train_alone, train_in_two_processes, train_alone), (2, 2, 3), strict=True):
        run(command(small_student, labels, output, epochs, *validation))
    alone, parallel, longer = outputs
    assert distance(alone / "last", parallel / "last") < 1e-5
    assert distance(alone / "last", longer / "last") > 1e-4  # negative control: one epoch more
    alone_metrics, parallel_metrics = (read_metrics(path / "metrics.jsonl") for path in (alone, parallel))
    assert [line.keys() for line in alone_metrics] == [line.keys() for line in parallel_metrics]
    for line, other in zip(alone_metrics, parallel_metrics, strict=True):
        # The absolute part is for the KL: near zero it is a difference of log-probabilities of magnitude 10, each of
        # which float32 rounds by up to 1e-6.
        assert other == pytest.approx(line, rel=1e-4, abs=1e-6), f"step {line['step']}"
    report = json.loads((parallel / "report.json").read_text())
    assert report["finished"] and report["steps"] == len([line for line in alone_metrics if "loss" in line])
    names = {path.name for path in (parallel / "checkpoints").glob("step-*")}
    assert any(name.endswith(".2-of-2.safetensors") for name in names)


@pytest.mark.needs("POSIX", "torch.distributed")
def test_run_with_a_killed_process_resumes(small_student: Path, labels: Path, tmp_path: Path) -> None:
    """One of two processes is killed and torchrun ends the other; a single process then finishes the run."""
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    train_alone(command(small_student, labels, undisturbed, 30))
    process = start_two_processes(command(small_student, labels, killed, 30))
    manifest = killed / "checkpoints" / "manifest.json"
    deadline = time.monotonic() + 200
    while not manifest.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
    os.kill(int(children.stdout.split()[0]), signal.SIGKILL)
    process.communicate(timeout=200)
    assert process.returncode != 0
    done = json.loads(manifest.read_text())[-1]["step"]
    assert 0 < done
    train_alone(command(small_student, labels, killed, 30))
    assert json.loads((killed / "report.json").read_text())["resumed_from"] >= done
    assert distance(undisturbed, killed) < 1e-4
