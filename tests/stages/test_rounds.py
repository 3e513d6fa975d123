"""Self-training: a student labels unlabelled audio and is trained on its own labels."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from whisperstill.console import NullConsole
from whisperstill.distill.metrics import read_metrics
from whisperstill.errors import SettingsError
from whisperstill.model.checkpoints import load_checkpoint
from whisperstill.records.augment_settings import AugmentSettings
from whisperstill.stages import filter as filtering, label, train
from whisperstill.stages.label import LabelSettings
from whisperstill.stages.train import TrainSettings


def test_student_trains_on_its_own_labels(
    small_teacher: Path, small_student: Path, small_corpus: Path, tmp_path: Path
) -> None:
    first = LabelSettings(
        str(small_teacher), (str(small_corpus),), tmp_path / "labels", encoder_states="bfloat16", max_new_tokens=8
    )
    label.run(first, NullConsole())
    training = TrainSettings(
        student=small_student,
        labels=first.output,
        output=tmp_path / "student",
        num_train_epochs=2,
        batch_size=4,
        warmup_steps=1,
        learning_rate=1e-3,
        logging_steps=1,
        teacher_targets="hidden",
        dropout=0.1,
    )
    train.run(training, NullConsole())
    unlabelled = tmp_path / "unlabelled.jsonl"
    lines = [json.loads(line) for line in small_corpus.read_text().splitlines()[:6]]
    rows = [{**line, "audio": str(small_corpus.parent / line["audio"]), "text": None} for line in lines]
    unlabelled.write_text("\n".join(map(json.dumps, rows)))
    again = replace(first, teacher=str(training.output), manifest=(str(unlabelled),), output=tmp_path / "own-labels")
    assert label.run(again, NullConsole()).wer is None
    filtered = filtering.run(filtering.FilterSettings(labels=again.output, output=tmp_path / "filtered"), NullConsole())
    assert filtered.utterances == 6
    second = replace(training, student=training.output, labels=again.output, output=tmp_path / "second")
    report = train.run(
        replace(second, augment=AugmentSettings(epochs_per_version=1), on_policy_fraction=0.5), NullConsole()
    )
    assert report.finished and report.encoder_windows == report.windows
    kl = [line["kl"] for line in read_metrics(second.output / "metrics.jsonl") if "kl" in line]
    assert 0 < kl[0] < 0.05  # the teacher is the student, but for dropout
    assert load_checkpoint(str(second.output)).metadata["teacher_sha256"] == load_checkpoint(small_teacher).sha256


def test_online_teacher_must_have_made_the_labels(
    small_teacher: Path, small_student: Path, small_corpus: Path, tmp_path: Path
) -> None:
    """Augmentation runs the teacher, which must be the one of the labels."""
    labels = tmp_path / "labels"
    label.run(
        LabelSettings(str(small_teacher), (str(small_corpus),), labels, encoder_states="bfloat16", max_new_tokens=8),
        NullConsole(),
    )
    training = TrainSettings(
        student=small_student, labels=labels, output=tmp_path / "student", teacher_targets="hidden"
    )
    with pytest.raises(SettingsError, match="did not make the labels"):
        train.run(
            replace(training, teacher=str(small_student), augment=AugmentSettings(epochs_per_version=1)), NullConsole()
        )
