"""Views with the teacher's answer, and the student's own words: what is asked anew, how often, and what comes of it."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from whisperstill.atomic_io import file_sha256
from whisperstill.decode.generate.logit_filter import LogitFilter
from whisperstill.distill import save_student as result
from whisperstill.distill.augmentation_cache import AugmentationCache
from whisperstill.distill.data_loader import DataLoader
from whisperstill.distill.dataset import ExampleOptions, build_examples
from whisperstill.distill.metrics import read_metrics
from whisperstill.distill.on_policy import generate_on_policy
from whisperstill.distill.trainer import Trainer
from whisperstill.errors import SettingsError
from whisperstill.label.store import open_labels
from whisperstill.model.checkpoints import load_checkpoint
from whisperstill.model.whisper import Whisper
from whisperstill.records.augment_settings import AugmentSettings
from whisperstill.stages import init, label, train
from whisperstill.stages.console import NullConsole
from whisperstill.stages.label import LabelSettings
from whisperstill.stages.train import TrainSettings
from whisperstill.text.vocabulary import Vocabulary

UNCHANGED = AugmentSettings(epochs_per_version=1, speed_perturbation=0.0, noise_prob=0.0, spec_augment_masks=0)
VIEW_GIB = 2 * 1500 * 32 / 2**30
"""Of the small teacher."""


@pytest.fixture(autouse=True)
def without_alignment_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which are found by decoding: most of the time of so small a training."""
    monkeypatch.setattr(result, "with_alignment_heads", lambda student, *rest, **more: student)


@pytest.fixture(scope="module")
def labels(small_teacher: Path, small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("views") / "labels"
    corpora = (str(small_corpus),)
    kept = LabelSettings(
        teacher=str(small_teacher), manifest=corpora, output=output, encoder_states="bfloat16", max_new_tokens=12
    )
    label.run(replace(kept, min_packed_seconds=4.0, packing_variants=3, dtype="float32"), NullConsole())
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


def figures(settings: TrainSettings, name: str = "loss") -> list[float]:
    return [line[name] for line in read_metrics(settings.output / "metrics.jsonl") if name in line]


def trained(settings: TrainSettings) -> str:
    train.run(settings, NullConsole())
    return file_sha256(settings.output / "model.safetensors")


def test_a_view_without_changes_is_what_was_labelled(training: TrainSettings, tmp_path: Path) -> None:
    """The teacher, asked anew about the same sound, says what it said."""
    stored = replace(training, num_train_epochs=2)
    anew = replace(stored, output=tmp_path / "anew", augment=UNCHANGED)
    reports = [train.run(one, NullConsole()) for one in (stored, anew)]
    assert [report.encoder_windows for report in reports] == [0, reports[0].windows]
    assert figures(anew) == pytest.approx(figures(stored), rel=1e-4)


@pytest.mark.parametrize("change", ["nothing", "speed", "noise", "masks"])
def test_the_teacher_answers_for_what_is_heard(small_teacher: Path, labels: Path, tmp_path: Path, change: str) -> None:
    checkpoint = load_checkpoint(str(small_teacher))
    teacher, store = Whisper.from_state(checkpoint.dims, checkpoint.state), open_labels(labels)
    changes = {
        "nothing": {},
        "speed": {"speed_perturbation": 0.2},
        "noise": {"noise_prob": 1.0, "min_snr_db": 0.0},
        "masks": {"spec_augment_masks": 5},
    }
    vocabulary = Vocabulary.from_size(checkpoint.dims.vocab_size)
    views = AugmentationCache(tmp_path, teacher, vocabulary, replace(UNCHANGED, **changes[change]), 0)
    (example, *_) = build_examples(store.read_labels(), None, vocabulary.end_of_text)
    assert views.get(example, 0) is None
    heard, again = views.get(example, 1), views.get(example, 2)
    assert heard is not None and again is not None and heard.encoded
    stored = store.read_encoder_states(example.label), store.read_hidden_states(example.label)
    found = heard.states, heard.hidden
    for one, other, least in zip(stored, found, (0.005, 5e-5), strict=True):
        assert one.shape == other.shape
        distance = float((one.float() - other.float()).norm() / one.float().norm())
        assert distance < least if change == "nothing" else distance > least
    assert torch.equal(heard.states, again.states) == (change == "nothing")  # each generation is another view


@pytest.mark.parametrize("room", [1000, 8])
def test_a_view_is_made_once_and_serves_as_often_as_asked(training: TrainSettings, room: int) -> None:
    """However little room there is: the order of the windows lets each of them serve before it goes."""
    views = replace(
        training, num_train_epochs=6, augment=AugmentSettings(epochs_per_version=2, cache_gib=room * VIEW_GIB * 1.001)
    )
    report = train.run(views, NullConsole())
    assert report.encoder_windows == 2 * report.windows
    assert report.windows > 8
    assert report.steps == 6 * -(-report.windows // 4)
    assert not (views.output / "augmentation_cache").exists()


def test_on_disk_there_are_no_more_views_than_may_be(
    training: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = replace(training, augment=AugmentSettings(epochs_per_version=2, cache_gib=8 * VIEW_GIB * 1.001))
    most, original = [0], Trainer._step

    def step(self: Trainer, *rest: object) -> object:
        most.append(len(list((views.output / "augmentation_cache").glob("*/*.safetensors"))))
        return original(self, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "_step", step)
    train.run(views, NullConsole())
    assert max(most) == 8


def test_a_resumed_run_ends_with_the_same_bits_even_if_its_views_are_lost(
    training: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = replace(training, on_policy_fraction=0.5, augment=AugmentSettings(epochs_per_version=2, prob=0.7))
    expected = trained(whole)
    for lost in (False, True):
        parts = replace(whole, output=tmp_path / f"parts-{lost}")
        with monkeypatch.context() as patch:
            stopping(patch, 11)
            assert not train.run(parts, NullConsole()).finished
        assert list((parts.output / "augmentation_cache").glob("*/*.safetensors"))
        if lost:
            shutil.rmtree(parts.output / "augmentation_cache")
        assert trained(parts) == expected
    assert trained(replace(whole, output=tmp_path / "seed", seed=1)) != expected


def stopping(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Let a run be asked to stop after so many steps, as SIGTERM does."""
    original = Trainer.run

    def run(self: Trainer, stop: Callable[[], bool], *rest: object) -> object:
        steps = iter(range(1, 1000))
        return original(self, lambda: next(steps) >= after, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "run", run)


def test_along_its_own_words_the_teacher_has_nothing_to_teach_itself(
    training: TrainSettings, small_teacher: Path, labels: Path, tmp_path: Path
) -> None:
    """KL(p, p) = 0 where the student speaks; a student that is not the teacher has some."""
    same = tmp_path / "same"
    init.run(init.InitSettings(teacher=str(small_teacher), output=same, decoder_layers=3), NullConsole())
    spoken = replace(training, num_train_epochs=1, on_policy_fraction=1.0, ce_weight=0.0, learning_rate=1e-12)
    train.run(replace(spoken, student=same), NullConsole())
    assert all(abs(kl) < 1e-6 for kl in figures(spoken, "kl"))
    other = replace(spoken, output=tmp_path / "other")
    train.run(other, NullConsole())
    assert all(kl > 1e-5 for kl in figures(other, "kl"))


def test_own_words_are_no_labels(training: TrainSettings, tmp_path: Path) -> None:
    """About half of the windows count for the pseudo-label loss in the last stretch, all of them before."""
    plain, spoken = training, replace(training, output=tmp_path / "spoken", on_policy_fraction=0.5)
    for one in (plain, spoken):
        train.run(one, NullConsole())
    tokens = figures(plain, "tokens"), figures(spoken, "tokens")
    half = len(tokens[0]) // 2
    assert tokens[0][:half] == tokens[1][:half]
    assert 0.25 < sum(tokens[1][half:]) / sum(tokens[0][half:]) < 0.75


def test_own_words_do_not_depend_on_who_shares_the_micro_batch(
    training: TrainSettings, small_student: Path, labels: Path
) -> None:
    """A small student babbles on: what ends its words is the limit, which is the window's own."""
    student = load_checkpoint(str(small_student))
    network = Whisper.from_state(student.dims, student.state, torch.float32, "cpu")
    vocabulary = Vocabulary.from_size(student.dims.vocab_size)
    store = open_labels(labels)
    found = build_examples(store.read_labels(), None, vocabulary.end_of_text)
    longest = found[1]
    shortest = replace(found[0], label=replace(found[0].label, tokens=found[0].label.tokens[:3]))
    source = DataLoader(store, network, vocabulary, ExampleOptions(0), "hidden", 2.0, True, False)
    rules = LogitFilter(vocabulary, student.generation_config, False, "cpu")
    alone = generate_on_policy(network, source.load([shortest], 0, on_policy=True), rules).batch
    both = generate_on_policy(network, source.load([shortest, longest], 0, on_policy=True), rules).batch
    assert len(shortest.label.tokens) < len(longest.label.tokens)
    assert both.lengths[0] == alone.lengths[0]
    assert torch.equal(both.decoder_ids[: alone.lengths[0]], alone.decoder_ids)


def test_what_cannot_be_is_said(training: TrainSettings, tmp_path: Path) -> None:
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
    with pytest.raises(SettingsError, match="kl_weight or hidden_loss_weight must be above 0"):
        train.run(replace(training, on_policy_fraction=0.1, kl_weight=0.0), NullConsole())
