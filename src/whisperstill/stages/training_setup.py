"""What the stages that train something have in common: held-out speech, the way through the steps, the end."""

import json
import threading
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whisperstill.atomic_io import atomic_write
from whisperstill.errors import CorpusError
from whisperstill.stages.console import Console
from whisperstill.stages.signals import set_event_on_sigterm

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from whisperstill.distill.dataset import TrainingExample
    from whisperstill.distill.process_group import ProcessGroup
    from whisperstill.distill.trainer import Trainer, TrainResult
    from whisperstill.distill.validation import Validation
    from whisperstill.model.checkpoints import Checkpoint
    from whisperstill.model.whisper import Whisper
    from whisperstill.stages.compress import CompressSettings
    from whisperstill.stages.train import TrainSettings


def build_validation(
    settings: "CompressSettings | TrainSettings",
    student: "Whisper",
    checkpoint: "Checkpoint",
    training_examples: "Sequence[TrainingExample]",
    process_group: "ProcessGroup",
    frozen_encoder: bool,
    dtype: "torch.dtype",
) -> "Validation | None":
    """The utterances that `settings` ask for, for a student that is made from `checkpoint`; None where none are.

    `frozen_encoder`: its encoder does not change, and hears them in `dtype`. What states no language is taken to be in
    the one that the student is for, or that all `training_examples` are in. Raises `CorpusError`.
    """
    corpora, limit = settings.validation, settings.validation_limit
    if not corpora:
        return None
    from whisperstill.corpus import read_corpus
    from whisperstill.decode.generate.logit_filter import LogitFilter
    from whisperstill.distill.validation import Validation
    from whisperstill.text.tokenizer import Tokenizer
    from whisperstill.text.vocabulary import Vocabulary

    utterances = [
        utterance for path in corpora for utterance in read_corpus(path).utterances if utterance.text is not None
    ]
    vocabulary = Vocabulary.from_size(checkpoint.dims.vocab_size)
    label_languages = {example.label.language for example in training_examples}
    language = checkpoint.generation_config.language if vocabulary.multilingual else "en"
    if language is None and len(label_languages) == 1:
        (language,) = label_languages
    if language is None and any(utterance.language is None for utterance in utterances):
        raise CorpusError(
            f"some utterances of {', '.join(corpora)} state no language, and the labels are in "
            f"{', '.join(sorted(label_languages))}: give them one in the manifest, or init the student with --language"
        )
    return Validation(
        student,
        Tokenizer.from_bytes(checkpoint.tokenizer_json, checkpoint.dims.vocab_size),
        LogitFilter(vocabulary, checkpoint.generation_config, False, process_group.device),
        utterances[:: max(1, -(-len(utterances) // limit))],
        language,
        process_group,
        checkpoint.encoder_sha256 if frozen_encoder else None,
        dtype,
    )


def run_training(trainer: "Trainer", title: str, console: Console) -> "TrainResult":
    """All steps that are left, or as many as SIGTERM allows."""
    stop_event = threading.Event()
    with set_event_on_sigterm(stop_event), console.progress(title, trainer.total_steps, "steps") as bar:
        result = trainer.run(
            stop_event.is_set, lambda steps, fields: bar.advance(steps, **fields), console.info, bar.skip
        )
    if not result.finished:
        steps = f"{result.train_state.step} of {trainer.total_steps}"
        console.warn(f"stopped at step {steps}: run the same command to go on")
    return result


def write_report(report: Any, output: Path, process_group: "ProcessGroup", console: Console) -> None:
    """Write a training's report, say what came of it, and leave the other processes."""
    if process_group.is_main:
        atomic_write(output / "report.json", json.dumps(asdict(report), indent=1))
    process_group.barrier()
    process_group.close()
    if report.finished:
        best_wer_note = (
            "" if report.best_wer is None else f", validation WER {report.best_wer:.2f} % at step {report.best_step}"
        )
        console.info(f"student written to {output}{best_wer_note}")
