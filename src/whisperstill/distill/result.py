"""The trained student as a checkpoint that the whole field can load."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from whisperstill.corpus import window_waveform
from whisperstill.decode.alignment_heads import with_alignment_heads
from whisperstill.decode.short_list import SIZE
from whisperstill.distill.examples import Example
from whisperstill.distill.trainer import Trainer
from whisperstill.errors import AudioError, CorpusError
from whisperstill.model.checkpoints import Checkpoint, write_huggingface
from whisperstill.units import SAMPLE_RATE

HEARD_FOR_HEADS = 12
"""Training windows on which the student's alignment heads are found."""

_log = logging.getLogger(__name__)


def write_result(
    trainer: Trainer,
    initial: Checkpoint,
    output: Path,
    examples: Sequence[Example],
    *,
    timestamps: bool,
    prompts: bool,
    language: str | None,
) -> None:
    """Write the last weights, and over them as the result the best ones where validation chose some.

    `language` (where all labels share one) becomes the student's default: a distilled decoder detects languages badly.
    With validation `output` holds the best and `output/last` the last; without, `output` holds the last. The student's
    alignment heads are found anew on some of the `examples`' windows: its teacher's are gone with their layers.
    """

    def written(directory: Path, step: int) -> None:
        state = {name: tensor.detach().cpu() for name, tensor in trainer.student.state_dict().items()}
        trained = {"trained_with_timestamps": timestamps, "trained_with_prompts": prompts, "trained_steps": step}
        metadata = {**initial.metadata, **trained, "tokens_seen": _tokens_seen(examples)}
        generation = initial.generation
        if language is not None and generation.language is None:
            generation = replace(generation, language=language)
        student = replace(initial, state=state, metadata=metadata, generation=generation)
        write_huggingface(_with_own_heads(student, examples, str(trainer.student.device)), directory)

    _last_and_best(trainer, output, written)


def write_encoder(trainer: Trainer, initial: Checkpoint, output: Path) -> None:
    """The same for a student whose encoder was trained: its decoder, and what it is said to be, stay as they are."""

    def written(directory: Path, step: int) -> None:
        state = {name: tensor.detach().cpu() for name, tensor in trainer.student.state_dict().items()}
        metadata = {**initial.metadata, "encoder_trained_steps": step}
        write_huggingface(replace(initial, state=state, metadata=metadata), directory)

    _last_and_best(trainer, output, written)


def _last_and_best(trainer: Trainer, output: Path, written: Callable[[Path, int], None]) -> None:
    progress = trainer.restore()
    assert progress is not None
    with trainer.heard():
        written(output if trainer.validation is None else output / "last", progress.step)
    if trainer.validation is not None:
        trainer.checkpoints.load_best(trainer.student, progress.best_step)
        written(output, progress.best_step)


def _tokens_seen(examples: Sequence[Example]) -> list[int]:
    """The tokens of the labels that occur most, ascending: what a draft will want to propose (`decode.short_list`)."""
    counts = Counter(token for example in examples for token in example.labelled.tokens)
    return sorted(token for token, _ in counts.most_common(SIZE))


def _with_own_heads(student: Checkpoint, examples: Sequence[Example], device: str) -> Checkpoint:
    """The student with its own alignment heads; as it is where the windows' audio is no longer there."""
    chosen = examples[:: max(1, len(examples) // HEARD_FOR_HEADS)][:HEARD_FOR_HEADS]
    try:
        waveforms = [
            window_waveform(one.labelled.window)[: round(one.labelled.window.duration * SAMPLE_RATE)] for one in chosen
        ]
    except (AudioError, CorpusError) as error:
        _log.warning("the student keeps its teacher's alignment heads, word times may be off: %s", error)
        return student
    languages = [one.labelled.language for one in chosen]
    return with_alignment_heads(student, waveforms, languages, device=device, dtype=torch.float32)
