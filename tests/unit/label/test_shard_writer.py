"""Labelling one shard with a small teacher."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from whisperstill.errors import AudioError
from whisperstill.label.settings import LabelSettings
from whisperstill.label.shard_plan import plan_shards
from whisperstill.label.shard_writer import ShardWriter, serialize_states


@pytest.fixture
def settings(small_teacher: Path, small_corpus: Path, tmp_path: Path) -> LabelSettings:
    return LabelSettings(
        teacher=str(small_teacher), manifest=(str(small_corpus),), output=tmp_path, batch_size=2, max_new_tokens=4
    )


def test_the_encoder_runs_once_per_window(settings: LabelSettings) -> None:
    writer = ShardWriter(settings, "cpu", torch.float32)
    (spec, *others), _ = plan_shards(settings, writer.teacher.vocabulary)
    encode, encoded, progress = writer.teacher.encode, [], []

    def counted(waveforms: Tensor) -> Tensor:
        encoded.append(len(waveforms))
        return encode(waveforms)

    writer.teacher.encode = counted  # type: ignore[method-assign]
    shard = writer.write_shard(spec, progress.append)
    assert sum(encoded) == shard.num_windows == len(spec.windows) and not others
    assert sum(progress) == pytest.approx(shard.hours * 3600) == spec.duration
    assert sorted(shard.files) == ["labels-00000.parquet", "topk-00000.parquet"]


def test_a_window_that_loses_an_utterance_keeps_the_others(
    settings: LabelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from whisperstill.corpus import loading

    original = loading.load_audio

    def fail_on_one(path: str, start: float, duration: float) -> object:
        if path.endswith("05.wav"):
            raise AudioError("damaged")
        return original(path, start, duration)

    monkeypatch.setattr(loading, "load_audio", fail_on_one)
    writer = ShardWriter(settings, "cpu", torch.float32)
    (spec,), _ = plan_shards(settings, writer.teacher.vocabulary)
    shard = writer.write_shard(spec)
    assert [entry["source"].endswith("/u05") for entry in shard.skipped] == [True]
    assert shard.num_windows == len(spec.windows) and shard.hours * 3600 == pytest.approx(spec.duration - 8)


def test_int8_states_are_within_half_a_step() -> None:
    states = torch.randn(1500, 8, generator=torch.Generator().manual_seed(0))
    stored = serialize_states(states, "int8")
    assert stored[""].dtype == torch.int8
    assert ((stored[""].float() * stored["/scale"] - states).abs() <= stored["/scale"] / 2 + 1e-6).all()
