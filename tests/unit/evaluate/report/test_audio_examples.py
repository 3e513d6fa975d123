"""Error examples: embedded audio, alignment spans, acceptance of drafts."""

import base64
import io
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from whisperstill.evaluate.report import audio_examples, render_page
from whisperstill.evaluate.report.audio_examples import (
    MAX_ERROR_RUN_WORDS,
    AlignmentSpan,
    describe_draft,
    encode_audio_data_uri,
    group_alignment_ops,
)
from whisperstill.records.eval_results import AlignmentOp, DraftToken, DraftTrace, EvalResults

from unit.evaluate.report import builders
from unit.evaluate.report.page_reader import read

DATA_URI_PREFIX = "data:audio/mpeg;base64,"


@pytest.fixture
def recording(tmp_path: Path) -> str:
    """Three seconds of a tone: 300 Hz in the first second, then 600 Hz."""
    times = np.arange(3 * 44_100) / 44_100
    tone = 0.3 * np.sin(2 * np.pi * np.where(times < 1, 300, 600) * times)
    soundfile.write(tmp_path / "tone.flac", tone, 44_100)
    return str(tmp_path / "tone.flac")


def decoded(address: str) -> tuple[np.ndarray, int, str, int]:
    assert address.startswith(DATA_URI_PREFIX)
    with av.open(io.BytesIO(base64.b64decode(address.removeprefix(DATA_URI_PREFIX), validate=True))) as container:
        (stream,) = container.streams.audio
        name, channels = stream.codec_context.name, stream.codec_context.channels
        parts = [frame.to_ndarray() for frame in container.decode(stream)]
        return np.concatenate(parts, axis=1)[0], stream.codec_context.sample_rate, name, channels


def test_clip_is_mono_mp3_of_the_requested_length(recording: str) -> None:
    address = encode_audio_data_uri(recording, 1.0, 1.5)
    sound, rate, name, channels = decoded(address)
    assert (rate, channels) == (16_000, 1)
    assert name.startswith("mp3")
    assert abs(len(sound) / rate - 1.5) < 0.12  # mp3 has a frame or two around
    assert len(address) < 1.5 * 5_600 + 1_500
    spectrum = np.abs(np.fft.rfft(sound[4_000:20_000]))
    assert abs(spectrum.argmax() - 600) <= 1


def test_page_embeds_audio(recording: str) -> None:
    (audio, *_) = (node for node in read(render_page(worst(recording))).all("audio"))
    assert "controls" in audio.attributes
    assert audio.attributes["aria-label"]
    assert abs(len(decoded(audio.attributes["src"])[0]) / 16_000 - 2.0) < 0.12


def test_page_without_audio(recording: str) -> None:
    assert not list(read(render_page(worst(recording), audio=False)).all("audio"))


def test_missing_recording_is_noted() -> None:
    page = read(render_page(worst("gone.flac")))
    assert not list(page.all("audio"))
    assert "could not be read" in page.text


def test_embedded_audio_is_limited(recording: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio_examples, "MAX_EMBEDDED_AUDIO_BYTES", 5_000)
    eval_results = worst(recording)
    embedded = audio_examples.embed_audio(eval_results.error_examples * 3)
    assert [bool(audio_uri) for _, audio_uri, _ in embedded] == [True, False, False]
    assert "too large" in embedded[1][2]


def worst(audio: str) -> EvalResults:
    return EvalResults("worst", {}, error_examples=(builders.worst(audio),))


def step(kind: str, reference: str = "", hypothesis: str = "") -> AlignmentOp:
    return AlignmentOp(kind, reference, hypothesis)


def test_adjacent_words_of_one_kind_are_joined_except_substitutions() -> None:
    steps = (step("=", "a", "a"), step("=", "b", "b"), step("s", "c", "x"), step("s", "d", "y"), step("d", "e"))
    assert list(group_alignment_ops((*steps, step("d", "f"), step("i", "", "z")))) == [
        AlignmentSpan("equal", "a b"),
        AlignmentSpan("substituted", "x", "c"),
        AlignmentSpan("substituted", "y", "d"),
        AlignmentSpan("deleted", "e f"),
        AlignmentSpan("inserted", "z"),
    ]


def test_long_insertion_run_is_truncated() -> None:
    first, cut = group_alignment_ops([step("i", "", "you")] * 300)
    assert first == AlignmentSpan("inserted", " ".join(["you"] * MAX_ERROR_RUN_WORDS))
    assert (cut.kind, cut.text) == ("truncated", f"… {300 - MAX_ERROR_RUN_WORDS} more words inserted …")


def test_both_ends_of_a_long_correct_run_are_shown() -> None:
    words = [f"w{number}" for number in range(500)]
    head, cut, tail = group_alignment_ops([step("=", word, word) for word in words])
    assert head.text.startswith("w0 ") and tail.text.endswith(" w499")
    shown = len(head.text.split()) + len(tail.text.split())
    assert cut.text == f"… {500 - shown} more words correct …"


def test_empty_alignment_has_no_spans() -> None:
    assert list(group_alignment_ops(())) == []


def test_draft_description_counts_accepted_and_corrected_tokens() -> None:
    tokens = (DraftToken(" a", "bonus"), DraftToken(" b", "accepted"), DraftToken(" c", "corrected", " d"))
    text = describe_draft(DraftTrace("set", "id", 2, tokens))
    assert text == "3 tokens in 2 passes of the teacher; 1 proposed token accepted (50 %), 1 corrected."
