"""Held-out speech as trainings hear it."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from whisperstill.distill.dataset import TrainingExample
from whisperstill.distill.process_group import ProcessGroup
from whisperstill.distill.validation import Validation, shared_encoder_cache
from whisperstill.errors import CorpusError
from whisperstill.model.checkpoints import Checkpoint, load_checkpoint
from whisperstill.model.whisper import Whisper
from whisperstill.records import PseudoLabel, Window
from whisperstill.stages.train import TrainSettings
from whisperstill.stages.training_setup import build_validation
from whisperstill.text.vocabulary import Vocabulary

FP32, BF16 = torch.float32, torch.bfloat16


def heard(
    checkpoint: Checkpoint,
    corpus: Path,
    limit: int = 4,
    dtype: torch.dtype = FP32,
    frozen: bool = True,
    found: Sequence[TrainingExample] = (),
) -> Validation:
    settings = TrainSettings(Path(), Path(), Path(), validation=(str(corpus),), validation_limit=limit)
    network = Whisper.from_state(checkpoint.dims, checkpoint.state)
    validation = build_validation(settings, network, checkpoint, found, ProcessGroup(), frozen, dtype)
    assert validation is not None
    return validation


def test_states_are_shared_where_all_is_the_same(small_teacher: Path, small_student: Path, small_corpus: Path) -> None:
    teacher, student = load_checkpoint(str(small_teacher)), load_checkpoint(str(small_student))
    louder = {name: 2 * value if name == "encoder.norm.weight" else value for name, value in teacher.state.items()}
    with shared_encoder_cache():
        first = heard(teacher, small_corpus)
        assert heard(student, small_corpus).items is first.items  # its encoder is the teacher's
    others: list[dict[str, Any]] = [
        {"limit": 2},
        {"dtype": BF16},
        {"checkpoint": replace(teacher, state=louder)},
        {"frozen": False},
    ]
    for change in others:  # each right behind the first, whose states are still there
        with shared_encoder_cache():
            first = heard(teacher, small_corpus)
            assert heard(**{"checkpoint": teacher, "corpus": small_corpus, **change}).items is not first.items, change
    assert heard(teacher, small_corpus).items is not heard(teacher, small_corpus).items


def test_bf16_is_fp32_but_for_rounding(small_teacher: Path, small_corpus: Path) -> None:
    exact, rounded = (heard(load_checkpoint(str(small_teacher)), small_corpus, dtype=dtype) for dtype in (FP32, BF16))
    for one, other in zip(exact.items, rounded.items, strict=True):
        assert (one.features.dtype, other.features.dtype) == (FP32, BF16)
        assert 0 < float((one.features - other.features).norm() / one.features.norm()) < 0.02
    assert exact.compute_edits().reference_length == rounded.compute_edits().reference_length


@pytest.mark.parametrize(
    ("students", "labels", "heard_as"), [("de", (), "de"), (None, ("nl",), "nl"), (None, ("nl", "de"), "")]
)
def test_what_states_no_language(
    small_teacher: Path, small_corpus: Path, students: str | None, labels: tuple[str, ...], heard_as: str
) -> None:
    """It is in the student's language, else in that of all labels, else somebody has to say."""
    silent = small_corpus.parent / "silent.jsonl"
    lines = map(json.loads, small_corpus.read_text().splitlines())
    silent.write_text("".join(json.dumps({**line, "language": None}) + "\n" for line in lines))
    checkpoint = load_checkpoint(str(small_teacher))
    checkpoint = replace(checkpoint, generation_config=replace(checkpoint.generation_config, language=students))
    assert Vocabulary.from_size(checkpoint.dims.vocab_size).multilingual
    found = [
        TrainingExample(PseudoLabel(Window("w", (), 0), language, (), "", True, False, (), "00000"), (), (), ())
        for language in labels
    ]
    if heard_as:
        assert heard(checkpoint, silent, found=found).language == heard_as
        assert heard(checkpoint, small_corpus, found=found).items[0].utterance.language == "en"  # which says it
    else:
        with pytest.raises(CorpusError, match=r"state no language, and the labels are in de, nl"):
            heard(checkpoint, silent, found=found)
