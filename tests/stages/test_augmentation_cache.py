"""Augmentation with teacher targets, and on-policy distillation: what is computed, how often, and its effect."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from whisperstill.atomic_io import file_sha256
from whisperstill.console import NullConsole
from whisperstill.decode.generate.logit_filter import LogitFilter
from whisperstill.distill.augmentation_cache import AugmentationCache
from whisperstill.distill.data_loader import DataLoader
from whisperstill.distill.dataset import build_examples
from whisperstill.distill.encoder_states import StoredStates
from whisperstill.distill.metrics import read_metrics
from whisperstill.distill.on_policy import generate_on_policy
from whisperstill.distill.settings import ExampleOptions
from whisperstill.distill.teacher_targets import StoredTargetReader
from whisperstill.distill.trainer import Trainer
from whisperstill.errors import SettingsError
from whisperstill.label.store import open_labels
from whisperstill.model.checkpoints import load_checkpoint
from whisperstill.model.whisper import Whisper
from whisperstill.records.augment_settings import AugmentSettings
from whisperstill.stages import init, label, train
from whisperstill.stages.label import LabelSettings
from whisperstill.stages.train import TrainSettings
from whisperstill.text.vocabulary import Vocabulary

UNCHANGED = AugmentSettings(epochs_per_version=1, speed_perturbation=0.0, noise_prob=0.0, spec_augment_masks=0)
WINDOW_GIB = 2 * 1500 * 32 / 2**30
"""Encoder states of a window of the small teacher, in bfloat16."""


@pytest.fixture(scope="module")
def labels(small_teacher: Path, small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("views") / "labels"
    corpora = (str(small_corpus),)
    settings = LabelSettings(
        teacher=str(small_teacher), manifest=corpora, output=output, encoder_states="bfloat16", max_new_tokens=12
    )
    label.run(replace(settings, min_packed_seconds=4.0, packing_variants=3, dtype="float32"), NullConsole())
    return output


@pytest.fixture
def training(small_student: Path, labels: Path, tmp_path: Path) -> TrainSettings:
    return TrainSettings(
        student=small_student,
        labels=labels,
        output=tmp_path / "trained",
        num_train_epochs=4,
        batch_size=4,
        warmup_steps=1,
        learning_rate=1e-3,
        logging_steps=1,
        teacher_targets="hidden",
        dtype="float32",
    )


def metric(settings: TrainSettings, name: str = "loss") -> list[float]:
    return [line[name] for line in read_metrics(settings.output / "metrics.jsonl") if name in line]


def trained(settings: TrainSettings) -> str:
    train.run(settings, NullConsole())
    return file_sha256(settings.output / "model.safetensors")


def test_augmentation_without_changes_gives_the_stored_targets(training: TrainSettings, tmp_path: Path) -> None:
    stored = replace(training, num_train_epochs=2)
    recomputed = replace(stored, output=tmp_path / "recomputed", augment=UNCHANGED)
    reports = [train.run(settings, NullConsole()) for settings in (stored, recomputed)]
    assert [report.encoder_windows for report in reports] == [0, reports[0].windows]
    assert metric(recomputed) == pytest.approx(metric(stored), rel=1e-4)


@pytest.mark.parametrize("change", ["nothing", "speed", "noise", "masks"])
def test_states_and_targets_change_with_the_audio(
    small_teacher: Path, labels: Path, tmp_path: Path, change: str
) -> None:
    checkpoint = load_checkpoint(str(small_teacher))
    teacher, store = Whisper.from_state(checkpoint.dims, checkpoint.state), open_labels(labels)
    changes = {
        "nothing": {},
        "speed": {"speed_perturbation": 0.2},
        "noise": {"noise_prob": 1.0, "min_snr_db": 0.0},
        "masks": {"spec_augment_masks": 5},
    }
    vocabulary = Vocabulary.from_size(checkpoint.dims.vocab_size)
    cache = AugmentationCache(tmp_path, teacher, StoredStates(store), replace(UNCHANGED, **changes[change]), 0)
    (example, *_) = build_examples(store.read_labels(), None, vocabulary.end_of_text)
    assert cache.get(example, 0) is None
    first, second = cache.get(example, 1), cache.get(example, 2)
    assert first is not None and second is not None and first.encoded and first.augmented_hidden is not None
    stored = store.read_encoder_states(example.label), store.read_hidden_states(example.label)
    for original, augmented, rounding in zip(
        stored, (first.states, first.augmented_hidden), (0.005, 5e-5), strict=True
    ):
        assert original.shape == augmented.shape
        distance = float((original.float() - augmented.float()).norm() / original.float().norm())
        assert distance < rounding if change == "nothing" else distance > rounding
    assert torch.equal(first.states, second.states) == (change == "nothing")  # each version is drawn anew


@pytest.mark.parametrize("cached_windows", [1000, 8])
def test_every_version_is_computed_once_with_any_cache_size(training: TrainSettings, cached_windows: int) -> None:
    """The order of the windows reuses each version before it is evicted."""
    augment = AugmentSettings(epochs_per_version=2, cache_gib=cached_windows * WINDOW_GIB * 1.001)
    report = train.run(replace(training, num_train_epochs=6, augment=augment), NullConsole())
    assert report.encoder_windows == 2 * report.windows
    assert report.windows > 8
    assert report.steps == 6 * -(-report.windows // 4)
    assert not (training.output / "augmentation_cache").exists()


def test_cache_respects_its_size_limit(
    training: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    augmented = replace(training, augment=AugmentSettings(epochs_per_version=2, cache_gib=8 * WINDOW_GIB * 1.001))
    counts, original = [0], Trainer._step

    def step(self: Trainer, *rest: object) -> object:
        counts.append(len(list((augmented.output / "augmentation_cache").glob("*/*.safetensors"))))
        return original(self, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "_step", step)
    train.run(augmented, NullConsole())
    assert max(counts) == 8


def test_resumed_training_ends_with_the_same_bits_with_or_without_its_cache(
    training: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = replace(training, on_policy_fraction=0.5, augment=AugmentSettings(epochs_per_version=2, prob=0.7))
    expected = trained(undisturbed)
    for lost in (False, True):
        parts = replace(undisturbed, output=tmp_path / f"parts-{lost}")
        with monkeypatch.context() as patch:
            stopping(patch, 11)
            assert not train.run(parts, NullConsole()).finished
        assert list((parts.output / "augmentation_cache").glob("*/*.safetensors"))
        if lost:
            shutil.rmtree(parts.output / "augmentation_cache")
        assert trained(parts) == expected
    assert trained(replace(undisturbed, output=tmp_path / "seed", seed=1)) != expected


def stopping(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Stop a run after `after` steps, as SIGTERM does."""
    original = Trainer.run

    def run(self: Trainer, stop: Callable[[], bool], *rest: object) -> object:
        steps = iter(range(1, 1000))
        return original(self, lambda: next(steps) >= after, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "run", run)


def test_on_policy_kl_of_the_teacher_itself_is_zero(
    training: TrainSettings, small_teacher: Path, labels: Path, tmp_path: Path
) -> None:
    """Negative control: another student has a KL above zero."""
    copy = tmp_path / "same"
    init.run(init.InitSettings(teacher=str(small_teacher), output=copy, decoder_layers=3), NullConsole())
    on_policy = replace(training, num_train_epochs=1, on_policy_fraction=1.0, ce_weight=0.0, learning_rate=1e-12)
    train.run(replace(on_policy, student=copy), NullConsole())
    assert [kl for kl in metric(on_policy, "kl") if not abs(kl) < 1e-6] == []
    other = replace(on_policy, output=tmp_path / "other")
    train.run(other, NullConsole())
    assert [kl for kl in metric(other, "kl") if not kl > 1e-5] == []


def test_on_policy_windows_have_no_cross_entropy(training: TrainSettings, tmp_path: Path) -> None:
    """All windows before the on-policy steps have a cross-entropy, about half of them after."""
    on_policy = replace(training, output=tmp_path / "on-policy", on_policy_fraction=0.5)
    for settings in (training, on_policy):
        train.run(settings, NullConsole())
    tokens = metric(training, "tokens"), metric(on_policy, "tokens")
    half = len(tokens[0]) // 2
    assert tokens[0][:half] == tokens[1][:half]
    assert 0.25 < sum(tokens[1][half:]) / sum(tokens[0][half:]) < 0.75


def test_on_policy_tokens_do_not_depend_on_the_micro_batch(
    training: TrainSettings, small_student: Path, labels: Path
) -> None:
    """An untrained student decodes to the limit, which is that of the window."""
    student = load_checkpoint(str(small_student))
    network = Whisper.from_state(student.dims, student.state, torch.float32, "cpu")
    vocabulary = Vocabulary.from_size(student.dims.vocab_size)
    store = open_labels(labels)
    examples = build_examples(store.read_labels(), None, vocabulary.end_of_text)
    long = examples[1]
    short = replace(examples[0], label=replace(examples[0].label, tokens=examples[0].label.tokens[:3]))
    targets = StoredTargetReader(store, "hidden", 2.0, needs_hidden=False)
    loader = DataLoader(vocabulary, ExampleOptions(), StoredStates(store), targets)
    logit_filter = LogitFilter(vocabulary, student.generation_config, False, "cpu")
    alone = generate_on_policy(network, loader.load_on_policy([short], 0), logit_filter)
    both = generate_on_policy(network, loader.load_on_policy([short, long], 0), logit_filter)
    assert len(short.label.tokens) < len(long.label.tokens)
    assert both.lengths[0] == alone.lengths[0]
    torch.testing.assert_close(both.decoder_ids[: alone.lengths[0]], alone.decoder_ids, rtol=0, atol=0)


def test_invalid_augmentation_and_on_policy_settings_are_refused(training: TrainSettings, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"augment\.prob must be 0 to 1, got 2"):
        train.run(replace(training, augment=AugmentSettings(epochs_per_version=1, prob=2.0)), NullConsole())
    with pytest.raises(SettingsError, match="augmented windows have no stored top-k"):
        train.run(
            replace(training, teacher_targets="topk", augment=AugmentSettings(epochs_per_version=1)), NullConsole()
        )
    with pytest.raises(SettingsError, match="noise_sources must be white, pink, files or folders, got nothing-here"):
        train.run(
            replace(training, augment=AugmentSettings(epochs_per_version=1, noise_sources=("nothing-here",))),
            NullConsole(),
        )
    with pytest.raises(SettingsError, match="on_policy_fraction needs a kl_weight or hidden_loss_weight above 0"):
        train.run(replace(training, on_policy_fraction=0.1, kl_weight=0.0), NullConsole())
