"""Held-out speech as trainings hear it."""

from dataclasses import replace
from pathlib import Path

import torch

from whisperstill.distill.ranks import Ranks
from whisperstill.distill.validation import Validation, hearing_once
from whisperstill.model.checkpoints import Checkpoint, load_checkpoint
from whisperstill.model.whisper import Whisper
from whisperstill.stages.learning import held_out

FP32, BF16 = torch.float32, torch.bfloat16


def heard(
    checkpoint: Checkpoint, corpus: Path, limit: int = 4, dtype: torch.dtype = FP32, frozen: bool = True
) -> Validation:
    network = Whisper.from_state(checkpoint.dims, checkpoint.state)
    found = held_out((str(corpus),), limit, network, checkpoint, Ranks(), frozen, dtype)
    assert found is not None
    return found


def test_states_are_shared_where_all_is_the_same(small_teacher: Path, small_student: Path, small_corpus: Path) -> None:
    teacher, student = load_checkpoint(str(small_teacher)), load_checkpoint(str(small_student))
    louder = {name: 2 * value if name == "encoder.norm.weight" else value for name, value in teacher.state.items()}
    with hearing_once():
        first = heard(teacher, small_corpus)
        assert heard(student, small_corpus).items is first.items  # its encoder is the teacher's
        for other in (
            heard(teacher, small_corpus, limit=2),
            heard(teacher, small_corpus, dtype=BF16),
            heard(replace(teacher, state=louder), small_corpus),
            heard(teacher, small_corpus, frozen=False),
        ):
            assert other.items is not first.items
    assert heard(teacher, small_corpus).items is not heard(teacher, small_corpus).items


def test_bf16_is_fp32_but_for_rounding(small_teacher: Path, small_corpus: Path) -> None:
    exact, rounded = (heard(load_checkpoint(str(small_teacher)), small_corpus, dtype=dtype) for dtype in (FP32, BF16))
    for one, other in zip(exact.items, rounded.items, strict=True):
        assert (one.heard.dtype, other.heard.dtype) == (FP32, BF16)
        assert 0 < float((one.heard - other.heard).norm() / one.heard.norm()) < 0.02
    assert exact.edits().reference == rounded.edits().reference
