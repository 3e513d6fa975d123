"""Ray workers write the same store as a single process, even if a worker is killed."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from whisperstill.console import NullConsole
from whisperstill.errors import StoreError
from whisperstill.label import ray_workers
from whisperstill.label.shard_plan import ShardSpec
from whisperstill.label.shard_writer import ShardWriter
from whisperstill.label.store import Shard, open_labels
from whisperstill.stages import label
from whisperstill.stages.label import LabelSettings

pytest.importorskip("ray", reason="Ray is not installed (extra ray)")

pytestmark = pytest.mark.usefixtures("one_thread")  # as a worker: the number of threads changes rounding


@pytest.fixture(scope="module")
def settings(small_teacher: Path, small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> LabelSettings:
    return LabelSettings(
        teacher=str(small_teacher),
        manifest=(str(small_corpus),),
        output=tmp_path_factory.mktemp("alone") / "labels",
        encoder_states="float32",
        packing_variants=2,
        batch_size=2,
        shard_windows=1,
        max_new_tokens=12,
    )


@pytest.fixture(scope="module")
def alone(settings: LabelSettings) -> str:
    label.run(settings, NullConsole())
    return open_labels(settings.output).sha256


def arguments(settings: LabelSettings, *more: str) -> list[str]:
    options = {
        "--teacher": settings.teacher,
        "--manifest": settings.manifest[0],
        "--output": str(settings.output),
        "--encoder-states": "float32",
        "--packing-variants": "2",
        "--batch-size": "2",
        "--shard-windows": "1",
        "--max-new-tokens": "12",
    }
    return [sys.executable, "-m", "whisperstill", "label", *(part for pair in options.items() for part in pair), *more]


def workers_of(process: subprocess.Popen[bytes]) -> list[int]:
    """Process ids of the Ray workers of this process."""
    pgrep = subprocess.run(["pgrep", "-f", "ray::ShardWriter"], capture_output=True, text=True, check=False)
    return [int(line) for line in pgrep.stdout.split() if os.getsid(int(line)) == os.getsid(process.pid)]


def test_a_killed_worker_does_not_change_the_store(settings: LabelSettings, alone: str, tmp_path: Path) -> None:
    several = replace(settings, output=tmp_path / "labels")
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src"),
        "WHISPERSTILL_NO_REEXEC": "1",
        "OMP_NUM_THREADS": "1",
    }
    process = subprocess.Popen(
        arguments(several, "--workers", "2"),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    deadline, killed = time.monotonic() + 240, 0
    while not killed and process.poll() is None and time.monotonic() < deadline:
        for worker in workers_of(process)[:1]:
            os.kill(worker, signal.SIGKILL)
            killed = worker
        time.sleep(0.02)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output.decode()
    assert killed
    store = open_labels(several.output)
    assert store.is_complete and store.sha256 == alone
    store.verify()


def test_a_shard_that_kills_its_workers_is_an_error_and_finished_shards_stay(
    settings: LabelSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run labels only the missing shards."""

    class DyingShardWriter(ShardWriter):
        def write_shard(self, shard: ShardSpec, *more: object) -> Shard:
            if shard.name == "00001":
                os._exit(1)
            return super().write_shard(shard)

    monkeypatch.setattr(ray_workers, "ShardWriter", DyingShardWriter)
    monkeypatch.setattr(ray_workers, "MAX_SHARD_ATTEMPTS", 2)
    several = replace(settings, output=tmp_path / "labels", workers=1)
    with pytest.raises(StoreError, match="2 workers died while labelling shard 00001"):
        label.run(several, NullConsole())
    done = open_labels(several.output).shards
    assert [shard.name for shard in done] == ["00000"]
    monkeypatch.undo()
    report = label.run(replace(several, workers=0), NullConsole())
    assert report.resumed_windows == done[0].num_windows
    assert open_labels(several.output).sha256 == open_labels(settings.output).sha256
