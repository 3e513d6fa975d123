"""The trained student as a checkpoint that the whole field can load."""

from dataclasses import replace
from pathlib import Path

from whisperstill.distill.trainer import Trainer
from whisperstill.model.checkpoints import Checkpoint, write_huggingface


def write_result(
    trainer: Trainer, initial: Checkpoint, output: Path, *, timestamps: bool, language: str | None
) -> None:
    """Write the last weights, and over them as the result the best ones where validation chose some.

    `language` (where all labels share one) becomes the student's default: a distilled decoder detects languages badly.
    With validation `output` holds the best and `output/last` the last; without, `output` holds the last.
    """

    def written(directory: Path, step: int) -> None:
        state = {name: tensor.detach().cpu() for name, tensor in trainer.student.state_dict().items()}
        metadata = {**initial.metadata, "trained_with_timestamps": timestamps, "trained_steps": step}
        generation = initial.generation
        if language is not None and generation.language is None:
            generation = replace(generation, language=language)
        write_huggingface(replace(initial, state=state, metadata=metadata, generation=generation), directory)

    progress = trainer.checkpoints.restore(trainer.student, trainer.optimiser, trainer.identity)
    assert progress is not None
    if trainer.validation is None:
        written(output, progress.step)
        return
    written(output / "last", progress.step)
    trainer.checkpoints.load_best(trainer.student)
    written(output, progress.best_step)
