"""The trained student as a Hugging Face checkpoint."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from whisperstill.corpus import load_window_waveform
from whisperstill.decode.generate.draft_model import NUM_DRAFT_TEXT_TOKENS
from whisperstill.decode.word_timestamps.alignment_heads import with_alignment_heads
from whisperstill.distill.batch import OnPolicyBatch, TokenBatch
from whisperstill.distill.dataset import TrainingExample
from whisperstill.distill.encoder_distillation import EncoderBatch
from whisperstill.distill.settings import DistillationSettings
from whisperstill.distill.trainer import BatchT, Trainer
from whisperstill.errors import AudioError, CorpusError
from whisperstill.model.checkpoints import Checkpoint, write_huggingface
from whisperstill.model.whisper import Whisper
from whisperstill.units import SAMPLE_RATE

NUM_ALIGNMENT_WINDOWS = 12
"""Training windows on which the student's alignment heads are determined."""

_log = logging.getLogger(__name__)


def save_student(
    trainer: Trainer[TokenBatch | OnPolicyBatch],
    initial: Checkpoint,
    settings: DistillationSettings,
    examples: Sequence[TrainingExample],
) -> None:
    """Write the trained student to `settings.output`.

    With validation `output` holds the best weights and `output/last` the last ones; without, `output` holds the last.
    If all labels have one language it becomes the student's default, since a distilled decoder detects languages badly.
    The alignment heads are determined on some of the `examples`, since the layers of the teacher's heads are gone.
    """
    languages = {example.label.language for example in examples}
    generation_config = initial.generation_config
    if initial.dims.multilingual and len(languages) == 1 and generation_config.language is None:
        generation_config = replace(generation_config, language=languages.pop())

    def build(state: dict[str, Tensor], step: int) -> Checkpoint:
        metadata = {
            **initial.metadata,
            "trained_with_timestamps": settings.timestamp_probability > 0,
            "trained_with_prompts": settings.condition_on_prev_probability > 0,
            "trained_steps": step,
            "frequent_tokens": _most_frequent_tokens(examples),
        }
        student = replace(initial, state=state, metadata=metadata, generation_config=generation_config)
        return _with_student_alignment_heads(student, examples, str(trainer.student.device))

    _save_last_and_best(trainer, settings.output, build)


def save_encoder(trainer: Trainer[EncoderBatch], initial: Checkpoint, output: Path) -> None:
    """Write a student whose encoder was trained, as `save_student`; the decoder and the metadata are unchanged."""

    def build(state: dict[str, Tensor], step: int) -> Checkpoint:
        return replace(initial, state=state, metadata={**initial.metadata, "encoder_trained_steps": step})

    _save_last_and_best(trainer, output, build)


def _save_last_and_best(
    trainer: Trainer[BatchT], output: Path, build: Callable[[dict[str, Tensor], int], Checkpoint]
) -> None:
    """Write the students that `build` makes of the last and the best weights; once if they are the same."""
    train_state = trainer.restore()
    assert train_state is not None
    with trainer.eval_weights():
        student = build(_copy_state(trainer.student), train_state.step)
        if trainer.validation is not None:
            write_huggingface(student, output / "last")
            if train_state.best_step != train_state.step:
                trainer.checkpoints.load_best(train_state.best_step)
                student = build(_copy_state(trainer.student), train_state.best_step)
        write_huggingface(student, output)


def _copy_state(student: Whisper) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu() for name, tensor in student.state_dict().items()}


def _most_frequent_tokens(examples: Sequence[TrainingExample]) -> list[int]:
    """The most frequent tokens of the labels, ascending, for the draft vocabulary."""
    counts = Counter(token for example in examples for token in example.label.tokens)
    return sorted(token for token, _ in counts.most_common(NUM_DRAFT_TEXT_TOKENS))


def _with_student_alignment_heads(student: Checkpoint, examples: Sequence[TrainingExample], device: str) -> Checkpoint:
    """The student with its own alignment heads; unchanged, with a warning, if the audio is gone."""
    sampled_examples = examples[:: max(1, len(examples) // NUM_ALIGNMENT_WINDOWS)][:NUM_ALIGNMENT_WINDOWS]
    try:
        waveforms = [
            load_window_waveform(example.label.window)[: round(example.label.window.duration * SAMPLE_RATE)]
            for example in sampled_examples
        ]
    except (AudioError, CorpusError) as error:
        _log.warning("the student keeps the teacher's alignment heads, word timestamps may be inaccurate: %s", error)
        return student
    languages = [example.label.language for example in sampled_examples]
    return with_alignment_heads(student, waveforms, languages, device=device, dtype=torch.float32)
