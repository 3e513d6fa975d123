"""Error examples for display: embedded audio, and each model's text aligned with the reference word by word.

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

from whisperstill.audio.audio_files import load_audio
from whisperstill.errors import AudioError
from whisperstill.evaluate.report import formatting as fmt
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


def describe_example(example: ErrorExample) -> str:
    """Dataset, duration and audio condition of an example."""
    facts = (example.dataset, f"{fmt.number(example.duration)} s", fmt.condition(example.condition))
    return " · ".join(facts if example.condition else facts[:2])


def embed_audio(examples: Iterable[ErrorExample]) -> list[tuple[ErrorExample, str, str]]:
    """Each example with its audio as `data:` URI, and a note why the audio is missing or incomplete."""
    embedded = []
    bytes_left = MAX_EMBEDDED_AUDIO_BYTES
    for example in examples:
        audio_uri, note = "", "Audio omitted: the page would be too large."
        if bytes_left > 0:
            try:
                audio_uri = encode_audio_data_uri(example.audio, example.start, example.duration)
                note = f"First {MAX_CLIP_S:g} seconds." if example.duration > MAX_CLIP_S else ""
            except AudioError:
                note = "The recording could not be read when this page was made."
        bytes_left -= len(audio_uri)
        embedded.append((example, audio_uri, note))
    return embedded


def encode_audio_data_uri(path: str, start_s: float, duration_s: float) -> str:
    """A `data:` URI with part of a recording as 16 kHz mono mp3, at most `MAX_CLIP_S` long.

    Raises `AudioError` if the file is missing or has no audio in this range.
    """
    waveform = load_audio(path, start_s, min(duration_s, MAX_CLIP_S) if duration_s > 0 else MAX_CLIP_S)
    samples = np.round(np.clip(waveform, -1.0, 1.0) * 32767).astype(np.int16)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp3") as container:
        stream = container.add_stream("mp3", rate=SAMPLE_RATE, layout="mono", bit_rate=MP3_BIT_RATE_BPS)
        for offset in range(0, len(samples), SAMPLE_RATE):
            frame = av.AudioFrame.from_ndarray(samples[None, offset : offset + SAMPLE_RATE], "s16p", "mono")
            frame.sample_rate, frame.pts = SAMPLE_RATE, offset
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return "data:audio/mpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def group_alignment_ops(ops: Sequence[AlignmentOp]) -> Iterable[AlignmentSpan]:
    """An alignment as the spans that are displayed."""
    for kind, op_group in groupby(ops, key=lambda op: op.kind):
        op_run = list(op_group)
        words = [op.reference if kind == "d" else op.hypothesis for op in op_run]
        if kind == "s":
            yield from (AlignmentSpan("substituted", op.hypothesis, op.reference) for op in op_run)
        elif kind == "=":
            yield from _truncate_run("equal", words, MAX_EQUAL_RUN_WORDS, tail_words=MAX_EQUAL_RUN_WORDS // 3)
        else:
            yield from _truncate_run("deleted" if kind == "d" else "inserted", words, MAX_ERROR_RUN_WORDS)


def _truncate_run(kind: str, words: Sequence[str], max_words: int, tail_words: int = 0) -> Iterable[AlignmentSpan]:
    if len(words) <= max_words:
        yield AlignmentSpan(kind, " ".join(words))
        return
    head_words = max_words - tail_words
    yield AlignmentSpan(kind, " ".join(words[:head_words]))
    description = "correct" if kind == "equal" else kind
    yield AlignmentSpan("truncated", f"… {fmt.count(len(words) - max_words)} more words {description} …")
    if tail_words:
        yield AlignmentSpan(kind, " ".join(words[-tail_words:]))


def describe_draft(draft: DraftTrace) -> str:
    """Acceptance of one speculative decoding, in a sentence."""
    kinds = [token.kind for token in draft.tokens]
    num_accepted, num_corrected = kinds.count("accepted"), kinds.count("corrected")
    num_proposed = num_accepted + num_corrected
    share_text = f" ({fmt.number(100 * num_accepted / num_proposed, 0)} %)" if num_proposed else ""
    accepted_text = f"{fmt.pluralize(num_accepted, 'proposed token')} accepted{share_text}"
    passes_text = f"{fmt.pluralize(draft.teacher_passes, 'pass', 'passes')} of the teacher"
    tokens_text = fmt.pluralize(len(kinds), "token")
    return f"{tokens_text} in {passes_text}; {accepted_text}, {fmt.count(num_corrected)} corrected."
