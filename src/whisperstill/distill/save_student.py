"""The trained student as a checkpoint that the whole field can load."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from whisperstill.corpus import load_window_waveform
from whisperstill.decode.generate.draft_model import NUM_DRAFT_TEXT_TOKENS
from whisperstill.decode.word_timestamps.alignment_heads import with_alignment_heads
from whisperstill.distill.dataset import TrainingExample
from whisperstill.distill.trainer import Trainer
from whisperstill.errors import AudioError, CorpusError
from whisperstill.model.checkpoints import Checkpoint, write_huggingface
from whisperstill.units import SAMPLE_RATE

NUM_ALIGNMENT_WINDOWS = 12
"""Training windows on which the student's alignment heads are found."""

_log = logging.getLogger(__name__)


def save_student(
    trainer: Trainer,
    initial: Checkpoint,
    output: Path,
    examples: Sequence[TrainingExample],
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

    def save(directory: Path, step: int) -> None:
        state_dict = {name: tensor.detach().cpu() for name, tensor in trainer.student.state_dict().items()}
        training_metadata = {
            "trained_with_timestamps": timestamps,
            "trained_with_prompts": prompts,
            "trained_steps": step,
        }
        metadata = {**initial.metadata, **training_metadata, "frequent_tokens": _most_frequent_tokens(examples)}
        generation_config = initial.generation_config
        if language is not None and generation_config.language is None:
            generation_config = replace(generation_config, language=language)
        student = replace(initial, state=state_dict, metadata=metadata, generation_config=generation_config)
        write_huggingface(_with_student_alignment_heads(student, examples, str(trainer.student.device)), directory)

    _save_last_and_best(trainer, output, save)


def save_encoder(trainer: Trainer, initial: Checkpoint, output: Path) -> None:
    """The same for a student whose encoder was trained: its decoder, and what it is said to be, stay as they are."""

    def save(directory: Path, step: int) -> None:
        state_dict = {name: tensor.detach().cpu() for name, tensor in trainer.student.state_dict().items()}
        metadata = {**initial.metadata, "encoder_trained_steps": step}
        write_huggingface(replace(initial, state=state_dict, metadata=metadata), directory)

    _save_last_and_best(trainer, output, save)


def _save_last_and_best(trainer: Trainer, output: Path, save: Callable[[Path, int], None]) -> None:
    train_state = trainer.restore()
    assert train_state is not None
    with trainer.eval_weights():
        save(output if trainer.validation is None else output / "last", train_state.step)
    if trainer.validation is not None:
        trainer.checkpoints.load_best(trainer.student, train_state.best_step)
        save(output, train_state.best_step)


def _most_frequent_tokens(examples: Sequence[TrainingExample]) -> list[int]:
    """Most frequent tokens of the labels, ascending, for `select_draft_vocabulary`."""
    counts = Counter(token for example in examples for token in example.label.tokens)
    return sorted(token for token, _ in counts.most_common(NUM_DRAFT_TEXT_TOKENS))


def _with_student_alignment_heads(student: Checkpoint, examples: Sequence[TrainingExample], device: str) -> Checkpoint:
    """The student with its own alignment heads; as it is where the windows' audio is no longer there."""
    sampled_examples = examples[:: max(1, len(examples) // NUM_ALIGNMENT_WINDOWS)][:NUM_ALIGNMENT_WINDOWS]
    try:
        waveforms = [
            load_window_waveform(example.label.window)[: round(example.label.window.duration * SAMPLE_RATE)]
            for example in sampled_examples
        ]
    except (AudioError, CorpusError) as error:
        _log.warning("the student keeps its teacher's alignment heads, word times may be off: %s", error)
        return student
    languages = [example.label.language for example in sampled_examples]
    return with_alignment_heads(student, waveforms, languages, device=device, dtype=torch.float32)
