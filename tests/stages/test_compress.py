"""Encoder distillation, and decoder distillation of a student with its own encoder."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch

from whisperstill.atomic_io import file_sha256
from whisperstill.console import NullConsole
from whisperstill.distill.metrics import read_metrics
from whisperstill.distill.trainer import Trainer
from whisperstill.errors import SettingsError, StoreError
from whisperstill.model.checkpoints import load_checkpoint
from whisperstill.records.augment_settings import AugmentSettings
from whisperstill.stages import compress, label, train
from whisperstill.stages.compress import CompressSettings
from whisperstill.stages.label import LabelSettings
from whisperstill.stages.train import TrainSettings


@pytest.fixture(scope="module")
def labels(small_teacher: Path, small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("compress") / "labels"
    label_settings = LabelSettings(
        str(small_teacher), (str(small_corpus),), output, encoder_states="float32", max_new_tokens=8, dtype="float32"
    )
    label.run(label_settings, NullConsole())
    return output


@pytest.fixture
def settings(small_student: Path, labels: Path, tmp_path: Path) -> CompressSettings:
    return CompressSettings(
        student=small_student,
        labels=labels,
        output=tmp_path / "smaller",
        encoder_layers=1,
        num_train_epochs=3,
        batch_size=2,
        learning_rate=1e-3,
        warmup_steps=1,
        logging_steps=1,
    )


def losses(output: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(output / "metrics.jsonl") if "loss" in line]


def test_encoder_shrinks_and_decoder_is_unchanged(settings: CompressSettings, small_corpus: Path) -> None:
    report = compress.run(replace(settings, validation=(str(small_corpus),), validation_limit=3), NullConsole())
    assert report.finished and report.layers == (0,) and report.best_wer is not None
    before, after = load_checkpoint(str(settings.student)), load_checkpoint(str(settings.output))
    assert (before.dims.encoder_layers, after.dims.encoder_layers) == (2, 1)
    assert report.encoder_parameters == after.parameter_counts.encoder < before.parameter_counts.encoder
    assert after.metadata["encoder_layers"] == [0] and after.metadata["layers"] == before.metadata["layers"]
    unchanged = {
        name: tensor
        for name, tensor in before.state.items()
        if name.startswith("decoder.") or "conv" in name or name == "encoder.positions"
    }
    torch.testing.assert_close({name: after.state[name] for name in unchanged}, unchanged, rtol=0, atol=0)
    assert not torch.equal(before.state["encoder.norm.weight"], after.state["encoder.norm.weight"])
    loss_curve = losses(settings.output)
    assert loss_curve[-1] < loss_curve[0]


@pytest.mark.parametrize(("dtype", "rounding"), [("float32", 1e-9), ("bfloat16", 1e-5)])
def test_loss_of_the_full_encoder_is_zero(
    settings: CompressSettings, tmp_path: Path, dtype: Literal["float32", "bfloat16"], rounding: float
) -> None:
    settings = replace(settings, dtype=dtype)
    compress.run(replace(settings, encoder_layers=2, max_steps=1), NullConsole())
    assert losses(settings.output)[0] < rounding
    compress.run(replace(settings, output=tmp_path / "other", layers=(1,), max_steps=1), NullConsole())
    assert losses(tmp_path / "other")[0] > 1e-4


def test_resumed_compression_ends_with_the_same_bits(
    settings: CompressSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compress.run(settings, NullConsole())
    parts, original = replace(settings, output=tmp_path / "parts"), Trainer.run

    def run(self: Trainer, stop: Callable[[], bool], *rest: object) -> object:
        steps = iter(range(1, 1000))
        return original(self, lambda: next(steps) >= 2, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run", run)
        assert not compress.run(parts, NullConsole()).finished
    assert compress.run(parts, NullConsole()).resumed_from == 2
    weights = [file_sha256(run_settings.output / "model.safetensors") for run_settings in (settings, parts)]
    assert weights[0] == weights[1]
    compress.run(replace(settings, output=tmp_path / "seed", seed=1), NullConsole())
    assert file_sha256(tmp_path / "seed" / "model.safetensors") != weights[0]


def test_decoder_can_be_trained_on_its_own_encoder(settings: CompressSettings, tmp_path: Path) -> None:
    compress.run(settings, NullConsole())
    training = TrainSettings(
        student=settings.output,
        labels=settings.labels,
        output=tmp_path / "adapted",
        num_train_epochs=3,
        batch_size=2,
        warmup_steps=1,
        learning_rate=1e-3,
        logging_steps=1,
        teacher_targets="hidden",
    )
    report = train.run(training, NullConsole())
    assert report.encoder_windows == 3 * report.windows  # computed online in every epoch
    assert losses(training.output)[-1] < losses(training.output)[0]
    for change in (
        {"encoder_states": "store"},
        {"augment": AugmentSettings(epochs_per_version=1)},
        {"on_policy_fraction": 0.5},
        {"teacher_targets": "online"},
    ):
        with pytest.raises(SettingsError, match="has its own encoder"):
            train.run(replace(training, output=tmp_path / "none", **change), NullConsole())


def test_invalid_settings_and_labels_are_refused(
    settings: CompressSettings, small_teacher: Path, small_corpus: Path, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match="encoder_layers must be 1 to 2, got 3"):
        compress.run(replace(settings, encoder_layers=3), NullConsole())
    with pytest.raises(SettingsError, match=r"encoder layers must ascend from 0 to 1 at most, got \[1, 0\]"):
        compress.run(replace(settings, layers=(1, 0)), NullConsole())
    with pytest.raises(
        SettingsError, match=r"num_train_epochs must be at least 1, got 0; max_grad_norm must be above 0"
    ):
        compress.run(replace(settings, num_train_epochs=0, max_grad_norm=0.0), NullConsole())
    compress.run(settings, NullConsole())
    with pytest.raises(SettingsError, match="has another encoder than"):
        compress.run(replace(settings, student=settings.output), NullConsole())
    none = LabelSettings(str(small_teacher), (str(small_corpus),), tmp_path / "labels", max_new_tokens=4)
    label.run(none, NullConsole())
    with pytest.raises(StoreError, match="label with --encoder-states bfloat16"):
        compress.run(replace(settings, labels=none.output), NullConsole())
