"""Kill `label` and `train` with SIGKILL at random moments, resume, and compare with an undisturbed run bit for bit.

    python tests/kill_resume.py --kills 20

Each stage runs as a separate process of the command line. The moments are drawn over the time that an undisturbed run
takes after it creates its output directory, so that they hit loading, computing and writing.
"""

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "src"


def start(arguments: list[str]) -> subprocess.Popen[bytes]:
    """Start `python -m whisperstill ...`."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(SOURCE),
        "WHISPERSTILL_NO_REEXEC": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "whisperstill", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(arguments: list[str], output: Path) -> float:
    """Run to the end; raise if it fails. Returns the seconds after the output directory appears."""
    process = start(arguments)
    begun(process, output)
    started = time.monotonic()
    _, errors = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(arguments)} failed:\n{errors.decode()}")
    return time.monotonic() - started


def begun(process: subprocess.Popen[bytes], directory: Path) -> None:
    """Wait until the output directory exists or the process ends."""
    while process.poll() is None and not directory.exists():
        time.sleep(0.01)


def kill_at_random(arguments: list[str], output: Path, length: float, kills: int, seed: int) -> int:
    """Run with `kills` kills at random moments, then to the end. Returns how many hit a running process.

    `length` is the duration of an undisturbed run in seconds.
    """
    rng = random.Random(seed)
    hit = 0
    for _ in range(kills):
        process = start(arguments)
        begun(process, output)
        try:
            # A resumed run is shorter: draw over the full length, and start from scratch if it ends before the kill.
            process.wait(timeout=rng.uniform(0, length + 0.5))
            subprocess.run(["rm", "-rf", str(output)], check=True)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            hit += 1
    finish(arguments, output)
    return hit


def content(directory: Path, patterns: tuple[str, ...]) -> dict[str, str]:
    """SHA-256 of the files that must be equal."""
    paths = [path for pattern in patterns for path in directory.glob(pattern)]
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(paths)}


LABEL_FILES = ("*.parquet", "*.safetensors", "manifest.json", "skipped.jsonl")
TRAIN_FILES = ("model.safetensors", "metrics.jsonl", "checkpoints/step-*.safetensors", "config.json")


def check(work: Path, teacher: Path, student: Path, manifest: Path, kills: int, seed: int) -> dict[str, int]:
    """Run the comparison; raises `AssertionError` if any file differs."""
    label = ["label", "--teacher", str(teacher), "--manifest", str(manifest), "--encoder-states", "bfloat16"]
    label += ["--batch-size", "1", "--shard-windows", "1", "--max-new-tokens", "24", "--output"]
    labels, killed = work / "labels", work / "labels-killed"
    seconds = finish([*label, str(labels)], labels)
    hits = {"label": kill_at_random([*label, str(killed)], killed, seconds, kills, seed)}
    expected = content(labels, LABEL_FILES)
    assert expected, "nothing was labelled"
    assert content(killed, LABEL_FILES) == expected, "labels differ after kills"

    train = ["train", "--student", str(student), "--labels", str(work / "labels"), "--num-train-epochs", "4"]
    train += ["--batch-size", "1", "--save-steps", "2", "--logging-steps", "1", "--dropout", "0.1", "--output"]
    student_output, killed = work / "student", work / "student-killed"
    seconds = finish([*train, str(student_output)], student_output)
    hits["train"] = kill_at_random([*train, str(killed)], killed, seconds, kills, seed)
    expected = content(student_output, TRAIN_FILES)
    assert "model.safetensors" in expected, "nothing was trained"
    assert content(killed, TRAIN_FILES) == expected, "students differ after kills"
    return hits


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sys.path[:0] = [str(SOURCE), str(Path(__file__).parent)]
    from small_models import small_world

    with tempfile.TemporaryDirectory() as directory:
        teacher, student, manifest = small_world(Path(directory))
        hits = check(Path(directory), teacher, student, manifest, options.kills, options.seed)
    print(f"equal bit for bit after {hits['label']} kills in label and {hits['train']} in train")


if __name__ == "__main__":
    main()
