"""Validation sets: shared encoder states, dtype, language of utterances without one."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from whisperstill.distill.dataset import TrainingExample
from whisperstill.distill.process_group import ProcessGroup
from whisperstill.distill.settings import LoopSettings
from whisperstill.distill.setup import build_validation
from whisperstill.distill.validation import Validation, shared_encoder_cache
from whisperstill.errors import CorpusError
from whisperstill.model.checkpoints import Checkpoint, load_checkpoint
from whisperstill.model.whisper import Whisper
from whisperstill.records import PseudoLabel, Window
from whisperstill.text.vocabulary import Vocabulary

FP32, BF16 = torch.float32, torch.bfloat16


def make_validation(
    checkpoint: Checkpoint,
    corpus: Path,
    limit: int = 4,
    frozen_dtype: torch.dtype | None = FP32,
    examples: Sequence[TrainingExample] = (),
) -> Validation:
    settings = LoopSettings(Path(), Path(), Path(), validation=(str(corpus),), validation_limit=limit)
    network = Whisper.from_state(checkpoint.dims, checkpoint.state)
    validation = build_validation(settings, network, checkpoint, examples, ProcessGroup(), frozen_dtype)
    assert validation is not None
    return validation


def test_encoder_states_are_shared_only_if_encoder_and_audio_are_equal(
    small_teacher: Path, small_student: Path, small_corpus: Path
) -> None:
    teacher, student = load_checkpoint(str(small_teacher)), load_checkpoint(str(small_student))
    scaled = {name: 2 * value if name == "encoder.norm.weight" else value for name, value in teacher.state.items()}
    with shared_encoder_cache():
        first = make_validation(teacher, small_corpus)
        assert make_validation(student, small_corpus).items is first.items  # its encoder is the teacher's
    changes: list[dict[str, Any]] = [
        {"limit": 2},
        {"frozen_dtype": BF16},
        {"checkpoint": replace(teacher, state=scaled)},
        {"frozen_dtype": None},
    ]
    for change in changes:  # each directly after the first, whose states are still cached
        with shared_encoder_cache():
            first = make_validation(teacher, small_corpus)
            other = make_validation(**{"checkpoint": teacher, "corpus": small_corpus, **change})
            assert other.items is not first.items, change
    first, second = (make_validation(teacher, small_corpus) for _ in range(2))  # without a shared cache
    assert first.items is not second.items


def test_bfloat16_states_are_float32_states_rounded(small_teacher: Path, small_corpus: Path) -> None:
    checkpoint = load_checkpoint(str(small_teacher))
    exact, rounded = (make_validation(checkpoint, small_corpus, frozen_dtype=dtype) for dtype in (FP32, BF16))
    for item, rounded_item in zip(exact.items, rounded.items, strict=True):
        assert (item.features.dtype, rounded_item.features.dtype) == (FP32, BF16)
        difference = (item.features - rounded_item.features).norm() / item.features.norm()
        assert 0 < float(difference) < 0.02
    assert exact.compute_edits().reference_length == rounded.compute_edits().reference_length


@pytest.mark.parametrize(
    ("student_language", "label_languages", "expected"),
    [("de", (), "de"), (None, ("nl",), "nl"), (None, ("nl", "de"), "")],
    ids=["the student's", "the labels'", "several languages"],
)
def test_language_of_utterances_without_one(
    small_teacher: Path,
    small_corpus: Path,
    student_language: str | None,
    label_languages: tuple[str, ...],
    expected: str,
) -> None:
    """The language of the student, else that of all labels, else an error."""
    without_language = small_corpus.parent / "without-language.jsonl"
    lines = map(json.loads, small_corpus.read_text().splitlines())
    without_language.write_text("".join(json.dumps({**line, "language": None}) + "\n" for line in lines))
    checkpoint = load_checkpoint(str(small_teacher))
    checkpoint = replace(checkpoint, generation_config=replace(checkpoint.generation_config, language=student_language))
    assert Vocabulary.from_size(checkpoint.dims.vocab_size).multilingual
    examples = [
        TrainingExample(PseudoLabel(Window("w", (), 0), language, (), "", True, False, (), "00000"), (), (), ())
        for language in label_languages
    ]
    if expected:
        assert make_validation(checkpoint, without_language, examples=examples).language == expected
        assert make_validation(checkpoint, small_corpus, examples=examples).items[0].utterance.language == "en"
    else:
        with pytest.raises(CorpusError, match=r"have no language, and the labels are in de, nl"):
            make_validation(checkpoint, without_language, examples=examples)
