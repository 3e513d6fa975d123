"""Self-training: a student labels audio that nobody has labelled, and goes on learning from it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from whisperstill.distill.metrics import read_metrics
from whisperstill.errors import SettingsError
from whisperstill.model.checkpoints import load_checkpoint
from whisperstill.records.augmentation import Augmentation
from whisperstill.stages import filter as filtering
from whisperstill.stages import label, train
from whisperstill.stages.console import Silent
from whisperstill.stages.label import LabelSettings
from whisperstill.stages.train import TrainSettings


def test_a_student_teaches_itself(small_teacher: Path, small_student: Path, small_corpus: Path, tmp_path: Path) -> None:
    first = LabelSettings(
        str(small_teacher), (str(small_corpus),), tmp_path / "labels", states="bf16", max_new_tokens=8
    )
    label.run(first, Silent())
    training = TrainSettings(
        student=small_student,
        labels=first.output,
        output=tmp_path / "student",
        epochs=2,
        batch_size=4,
        warmup_steps=1,
        learning_rate=1e-3,
        log_every=1,
        targets="hidden",
        dropout=0.1,
    )
    train.run(training, Silent())
    unlabelled = tmp_path / "unlabelled.jsonl"
    lines = [json.loads(line) for line in small_corpus.read_text().splitlines()[:6]]
    rows = [{**line, "audio": str(small_corpus.parent / line["audio"]), "text": None} for line in lines]
    unlabelled.write_text("\n".join(map(json.dumps, rows)))
    again = replace(first, teacher=str(training.output), manifest=(str(unlabelled),), output=tmp_path / "own-labels")
    assert label.run(again, Silent()).wer is None
    kept = filtering.run(filtering.FilterSettings(labels=again.output, output=tmp_path / "filtered"), Silent())
    assert kept.utterances == 6
    second = replace(training, student=training.output, labels=again.output, output=tmp_path / "second")
    report = train.run(replace(second, views=Augmentation(uses=1), on_policy=0.5), Silent())
    assert report.finished and report.encoder_windows == report.windows
    kl = [line["kl"] for line in read_metrics(second.output / "metrics.jsonl") if "kl" in line]
    assert 0 < kl[0] < 0.05  # it agrees with itself but for the dropout
    assert load_checkpoint(str(second.output)).metadata["teacher_sha256"] == load_checkpoint(small_teacher).sha256


def test_labels_of_another_teacher_are_refused(
    small_teacher: Path, small_student: Path, small_corpus: Path, tmp_path: Path
) -> None:
    """Views ask the one that made the labels, whoever is named."""
    labels = tmp_path / "labels"
    label.run(
        LabelSettings(str(small_teacher), (str(small_corpus),), labels, states="bf16", max_new_tokens=8), Silent()
    )
    training = TrainSettings(student=small_student, labels=labels, output=tmp_path / "student", targets="hidden")
    with pytest.raises(SettingsError, match="is not the one that made the labels"):
        train.run(replace(training, teacher=str(small_student), views=Augmentation(uses=1)), Silent())
