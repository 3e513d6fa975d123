"""Utterances worth listening to, as they are shown: the sound, what was said, and what each model made of it.

Neighbours of one kind are joined, and runs that are long (a loop of two hundred words) are cut, with their length said.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from whisperstill.errors import AudioError
from whisperstill.evaluate.report.audio_embed import MAX_CLIP_S, encode_audio_data_uri
from whisperstill.evaluate.report.numbers import format_count, format_number, pluralize
from whisperstill.evaluate.report.view import ResultsView, describe_condition
from whisperstill.records.eval_results import AlignmentOp, DraftTrace, ErrorExample

MAX_EMBEDDED_AUDIO_BYTES = 12_000_000
"""Of sound in a page; the utterances after that are shown without."""
MAX_ERROR_RUN_WORDS = 24
"""Of a run of words left out or made up that are shown."""
MAX_EQUAL_RUN_WORDS = 80
"""Of a run of words heard right."""


@dataclass(frozen=True, slots=True)
class AlignmentSpan:
    """Words of one kind: `equal`, `substituted` (one word), `deleted`, `inserted`, or `truncated` (how many are not
    shown)."""

    kind: str
    text: str
    reference: str = ""
    """What a substituted word stands for."""


@dataclass(frozen=True, slots=True)
class ModelLine:
    """A model's line."""

    name: str
    errors: str
    spans: tuple[AlignmentSpan, ...]
    text: str


@dataclass(frozen=True, slots=True)
class AudioExample:
    """One utterance."""

    title: str
    facts: str
    reference: str
    lines: tuple[ModelLine, ...]
    language: str = ""
    audio_uri: str = ""
    """Address of the sound; empty where it is left out."""
    note: str = ""
    """Why there is no sound, or not all of it."""


def build_audio_examples(view: ResultsView, audio: bool) -> list[AudioExample]:
    """All utterances worth listening to; with their sound, where `audio` says so and the recording is there."""
    languages = {dataset.name: dataset.language for dataset in view.datasets}
    audio_examples: list[AudioExample] = []
    for error_example in view.eval_results.error_examples:
        bytes_left = MAX_EMBEDDED_AUDIO_BYTES - sum(len(built.audio_uri) for built in audio_examples)
        audio_examples.append(
            _build_audio_example(view, error_example, languages.get(error_example.dataset, ""), audio, bytes_left)
        )
    return audio_examples


def _build_audio_example(
    view: ResultsView, error_example: ErrorExample, language: str, audio: bool, bytes_left: int
) -> AudioExample:
    audio_uri, note = "", ""
    if audio and bytes_left <= 0:
        note = "The sound is left out: the page would be too large."
    elif audio:
        try:
            audio_uri = encode_audio_data_uri(error_example.audio, error_example.start, error_example.duration)
            note = f"The first {MAX_CLIP_S:g} seconds." if error_example.duration > MAX_CLIP_S else ""
        except AudioError:
            note = "The recording was not there when this page was made."
    facts = [
        error_example.dataset,
        f"{format_number(error_example.duration)} s",
        *([describe_condition(error_example.condition)] if error_example.condition else []),
    ]
    return AudioExample(
        title=f"{error_example.reason[:1].upper()}{error_example.reason[1:]}: {error_example.id}",
        facts=" · ".join(facts),
        reference=error_example.reference,
        lines=tuple(
            ModelLine(
                view.display_name(alignment.model),
                pluralize(alignment.errors, "error"),
                tuple(group_alignment_ops(alignment.ops)),
                alignment.text,
            )
            for alignment in error_example.alignments
        ),
        language=language,
        audio_uri=audio_uri,
        note=note,
    )


def group_alignment_ops(ops: Sequence[AlignmentOp]) -> Iterable[AlignmentSpan]:
    """An alignment as what is shown of it."""
    for kind, op_group in groupby(ops, key=lambda op: op.kind):
        op_run = list(op_group)
        if kind == "s":
            yield from (AlignmentSpan("substituted", op.hypothesis, op.reference) for op in op_run)
        elif kind == "=":
            yield from _truncate_run(
                "equal", [op.hypothesis for op in op_run], MAX_EQUAL_RUN_WORDS, tail_words=MAX_EQUAL_RUN_WORDS // 3
            )
        elif kind == "d":
            yield from _truncate_run("deleted", [op.reference for op in op_run], MAX_ERROR_RUN_WORDS)
        else:
            yield from _truncate_run("inserted", [op.hypothesis for op in op_run], MAX_ERROR_RUN_WORDS)


def _truncate_run(kind: str, words: Sequence[str], max_words: int, tail_words: int = 0) -> Iterable[AlignmentSpan]:
    if len(words) <= max_words:
        yield AlignmentSpan(kind, " ".join(words))
        return
    head_words = max_words - tail_words
    yield AlignmentSpan(kind, " ".join(words[:head_words]))
    description = {"equal": "heard right", "deleted": "left out", "inserted": "made up"}[kind]
    yield AlignmentSpan("truncated", f"… {format_count(len(words) - max_words)} more words {description} …")
    if tail_words:
        yield AlignmentSpan(kind, " ".join(words[-tail_words:]))


def describe_draft(draft: DraftTrace) -> str:
    """How a draft fared, in a sentence."""
    kinds = [token.kind for token in draft.tokens]
    num_accepted, num_corrected = kinds.count("accepted"), kinds.count("corrected")
    num_proposed = num_accepted + num_corrected
    share_text = f" ({format_number(100 * num_accepted / num_proposed, 0)} %)" if num_proposed else ""
    return (
        f"{pluralize(len(kinds), 'token')} in {pluralize(draft.teacher_passes, 'pass', 'passes')} of the teacher; "
        f"{format_count(num_accepted)} proposals accepted{share_text}, {format_count(num_corrected)} corrected."
    )
