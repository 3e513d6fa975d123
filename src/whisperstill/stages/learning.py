"""What the stages that train something have in common: held-out speech, the way through the steps, the end."""

import json
import threading
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whisperstill.errors import CorpusError
from whisperstill.files import write_whole
from whisperstill.stages.console import Console
from whisperstill.stages.terminate import on_terminate

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from whisperstill.distill.examples import Example
    from whisperstill.distill.ranks import Ranks
    from whisperstill.distill.trainer import Outcome, Trainer
    from whisperstill.distill.validation import Validation
    from whisperstill.model.checkpoints import Checkpoint
    from whisperstill.model.whisper import Whisper
    from whisperstill.stages.compress import CompressSettings
    from whisperstill.stages.train import TrainSettings


def held_out(
    settings: "CompressSettings | TrainSettings",
    student: "Whisper",
    checkpoint: "Checkpoint",
    found: "Sequence[Example]",
    ranks: "Ranks",
    frozen: bool,
    dtype: "torch.dtype",
) -> "Validation | None":
    """The utterances that `settings` ask for, for a student that is made from `checkpoint`; None where none are.

    `frozen`: its encoder does not change, and hears them in `dtype`. What states no language is taken to be in the one
    that the student is for, or that all examples `found` are in. Raises `CorpusError`.
    """
    corpora, limit = settings.validation, settings.validation_limit
    if not corpora:
        return None
    from whisperstill.corpus import read_corpus
    from whisperstill.decode.rules import Rules
    from whisperstill.distill.validation import Validation
    from whisperstill.text.tokenizer import Tokenizer
    from whisperstill.text.vocabulary import Vocabulary

    utterances = [u for path in corpora for u in read_corpus(path).utterances if u.text is not None]
    vocabulary = Vocabulary.of(checkpoint.dims.vocab)
    spoken = {example.labelled.language for example in found}
    language = checkpoint.generation.language if vocabulary.multilingual else "en"
    if language is None and len(spoken) == 1:
        (language,) = spoken
    if language is None and any(one.language is None for one in utterances):
        raise CorpusError(
            f"some utterances of {', '.join(corpora)} state no language, and the labels are in "
            f"{', '.join(sorted(spoken))}: give them one in the manifest, or init the student with --language"
        )
    return Validation(
        student,
        Tokenizer.from_bytes(checkpoint.tokenizer_json, checkpoint.dims.vocab),
        Rules(vocabulary, checkpoint.generation, False, ranks.device),
        utterances[:: max(1, -(-len(utterances) // limit))],
        language,
        ranks,
        checkpoint.encoder_sha256 if frozen else None,
        dtype,
    )


def go_through(trainer: "Trainer", title: str, console: Console) -> "Outcome":
    """All steps that are left, or as many as SIGTERM allows."""
    stop = threading.Event()
    with on_terminate(stop), console.progress(title, trainer.total_steps, "steps") as bar:
        outcome = trainer.run(stop.is_set, lambda steps, fields: bar.advance(steps, **fields), console.info, bar.found)
    if not outcome.finished:
        steps = f"{outcome.progress.step} of {trainer.total_steps}"
        console.warn(f"stopped at step {steps}: run the same command to go on")
    return outcome


def tell(report: Any, output: Path, ranks: "Ranks", console: Console) -> None:
    """Write a training's report, say what came of it, and leave the other processes."""
    if ranks.leads:
        write_whole(output / "report.json", json.dumps(asdict(report), indent=1))
    ranks.wait()
    ranks.close()
    if report.finished:
        best = "" if report.best_wer is None else f", validation WER {report.best_wer:.2f} % at step {report.best_step}"
        console.info(f"student written to {output}{best}")
