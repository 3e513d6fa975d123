"""Error examples for display: embedded audio, the reference, and each model's text aligned with it word by word.

Adjacent words of one kind are joined into spans. Long runs (such as a repetition loop of two hundred words) are
truncated, and the number of words left out is shown.
"""

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import av
import numpy as np
from jaxtyping import Float32

from whisperstill.audio.audio_files import load_audio
from whisperstill.errors import AudioError
from whisperstill.evaluate.report.formatting import describe_condition, format_count, format_number, pluralize
from whisperstill.evaluate.report.view import ResultsView
from whisperstill.records.eval_results import AlignmentOp, DraftTrace, ErrorExample
from whisperstill.units import SAMPLE_RATE

MAX_EMBEDDED_AUDIO_BYTES = 12_000_000
"""Embedded audio per page; later examples are shown without audio."""
MAX_CLIP_S = 60.0
"""Audio per example."""
MP3_BIT_RATE_BPS = 32_000
MAX_ERROR_RUN_WORDS = 24
"""Words shown of a run of deletions or insertions."""
MAX_EQUAL_RUN_WORDS = 80
"""Words shown of a run of correct words."""


@dataclass(frozen=True, slots=True)
class AlignmentSpan:
    """Words of one kind: `equal`, `substituted` (one word), `deleted`, `inserted`; `truncated` counts hidden words."""

    kind: str
    text: str
    reference: str = ""
    """Reference word of a substitution."""


@dataclass(frozen=True, slots=True)
class ModelLine:
    """One model's transcript of an example."""

    name: str
    errors: str
    spans: Sequence[AlignmentSpan]
    text: str


@dataclass(frozen=True, slots=True)
class AudioExample:
    """One utterance with its reference and the transcripts of all models."""

    title: str
    facts: str
    reference: str
    lines: Sequence[ModelLine]
    language: str = ""
    audio_uri: str = ""
    """`data:` URI of the audio; empty without audio."""
    note: str = ""
    """Why audio is missing or incomplete."""


def build_audio_examples(view: ResultsView, audio: bool) -> list[AudioExample]:
    """All error examples; with audio, if `audio` is set and the recording can be read."""
    languages = {dataset.name: dataset.language for dataset in view.datasets}
    audio_examples: list[AudioExample] = []
    for error_example in view.eval_results.error_examples:
        bytes_left = MAX_EMBEDDED_AUDIO_BYTES - sum(len(built.audio_uri) for built in audio_examples)
        audio_uri, note = _embed_audio(error_example, bytes_left) if audio else ("", "")
        facts = [error_example.dataset, f"{format_number(error_example.duration)} s"]
        if error_example.condition:
            facts.append(describe_condition(error_example.condition))
        lines = [
            ModelLine(
                view.display_name(alignment.model),
                pluralize(alignment.errors, "error"),
                list(group_alignment_ops(alignment.ops)),
                alignment.text,
            )
            for alignment in error_example.alignments
        ]
        audio_examples.append(
            AudioExample(
                title=f"{error_example.reason[:1].upper()}{error_example.reason[1:]}: {error_example.id}",
                facts=" · ".join(facts),
                reference=error_example.reference,
                lines=lines,
                language=languages.get(error_example.dataset, ""),
                audio_uri=audio_uri,
                note=note,
            )
        )
    return audio_examples


def _embed_audio(error_example: ErrorExample, bytes_left: int) -> tuple[str, str]:
    """(data URI, note) of an example."""
    if bytes_left <= 0:
        return "", "Audio omitted: the page would be too large."
    try:
        audio_uri = encode_audio_data_uri(error_example.audio, error_example.start, error_example.duration)
    except AudioError:
        return "", "The recording could not be read when this page was made."
    return audio_uri, f"First {MAX_CLIP_S:g} seconds." if error_example.duration > MAX_CLIP_S else ""


def encode_audio_data_uri(path: str, start_s: float, duration_s: float) -> str:
    """A `data:audio/mpeg;base64,…` URI of part of a recording, at most `MAX_CLIP_S` long.

    Raises `AudioError` if the file is missing or has no audio in this range.
    """
    waveform = load_audio(path, start_s, min(duration_s, MAX_CLIP_S) if duration_s > 0 else MAX_CLIP_S)
    return "data:audio/mpeg;base64," + base64.b64encode(encode_mp3(waveform)).decode("ascii")


def encode_mp3(waveform: Float32[np.ndarray, "samples"]) -> bytes:
    """A 16 kHz waveform as mono mp3."""
    buffer = io.BytesIO()
    samples = np.round(np.clip(waveform, -1.0, 1.0) * 32767).astype(np.int16)
    with av.open(buffer, "w", format="mp3") as container:
        stream = container.add_stream("mp3", rate=SAMPLE_RATE, layout="mono", bit_rate=MP3_BIT_RATE_BPS)
        for offset in range(0, len(samples), SAMPLE_RATE):
            frame = av.AudioFrame.from_ndarray(samples[None, offset : offset + SAMPLE_RATE], "s16p", "mono")
            frame.sample_rate, frame.pts = SAMPLE_RATE, offset
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def group_alignment_ops(ops: Sequence[AlignmentOp]) -> Iterable[AlignmentSpan]:
    """An alignment as the spans that are displayed."""
    for kind, op_group in groupby(ops, key=lambda op: op.kind):
        op_run = list(op_group)
        if kind == "s":
            yield from (AlignmentSpan("substituted", op.hypothesis, op.reference) for op in op_run)
        elif kind == "=":
            words = [op.hypothesis for op in op_run]
            yield from _truncate_run("equal", words, MAX_EQUAL_RUN_WORDS, tail_words=MAX_EQUAL_RUN_WORDS // 3)
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
    description = "correct" if kind == "equal" else kind
    yield AlignmentSpan("truncated", f"… {format_count(len(words) - max_words)} more words {description} …")
    if tail_words:
        yield AlignmentSpan(kind, " ".join(words[-tail_words:]))


def describe_draft(draft: DraftTrace) -> str:
    """Acceptance of one speculative decoding, in a sentence."""
    kinds = [token.kind for token in draft.tokens]
    num_accepted, num_corrected = kinds.count("accepted"), kinds.count("corrected")
    num_proposed = num_accepted + num_corrected
    share_text = f" ({format_number(100 * num_accepted / num_proposed, 0)} %)" if num_proposed else ""
    return (
        f"{pluralize(len(kinds), 'token')} in {pluralize(draft.teacher_passes, 'pass', 'passes')} of the teacher; "
        f"{pluralize(num_accepted, 'proposed token')} accepted{share_text}, {format_count(num_corrected)} corrected."
    )
