"""Splitting recordings longer than a window."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from whisperstill.corpus import load_window_waveform, pack, read_corpus, split_long
from whisperstill.records import AudioSpan, Utterance

MakeAudio = Callable[..., Path]


def utterance(path: Path, duration: float, start: float = 0.0, text: str | None = "WORDS") -> Utterance:
    return Utterance("rec", "c", AudioSpan(str(path), start, duration), text, "en", None, None)


def test_utterances_that_fit_are_unchanged(make_audio: MakeAudio) -> None:
    short, exact = utterance(make_audio("a.wav"), 0.5), utterance(make_audio("b.wav"), 30.0)
    assert split_long([short, exact]) == ((short, exact), ())


def test_a_long_recording_is_split_into_pieces(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    waveform = rng.uniform(-0.3, 0.3, 71 * 16000).astype(np.float32)
    waveform[25 * 16000 : 26 * 16000] = waveform[50 * 16000 : 51 * 16000] = 0
    soundfile.write(tmp_path / "long.wav", waveform, 16000, subtype="FLOAT")
    pieces, notes = split_long([utterance(tmp_path / "long.wav", 70.0, start=1.0)])
    assert [piece.id for piece in pieces] == ["rec#0000", "rec#0001", "rec#0002"]
    assert [
        piece for piece in pieces if not (piece.text is None and piece.session == "rec" and piece.language == "en")
    ] == []
    assert [round(piece.audio.start, 1) for piece in pieces] == [1.0, 25.5, 50.5]
    assert sum(piece.audio.duration for piece in pieces) == 70.0
    assert [note.source for note in notes] == ["rec"]
    assert "reference dropped" in notes[0].reason
    sound = np.concatenate([load_window_waveform(w)[: round(w.duration * 16000)] for w in pack(pieces)])
    np.testing.assert_array_equal(sound, waveform[16000:])


def test_no_note_without_a_reference(make_audio: MakeAudio) -> None:
    pieces, notes = split_long([utterance(make_audio("a.wav", 31.0), 31.0, text=None)])
    assert len(pieces) == 2
    assert notes == ()


def test_a_wrong_stated_duration_keeps_the_reference(make_audio: MakeAudio) -> None:
    pieces, notes = split_long([utterance(make_audio("a.wav", 5.0), 300.0)])
    assert [(piece.id, piece.text, piece.audio.duration) for piece in pieces] == [("rec", "WORDS", 5.0)]
    assert notes == ()


def test_unreadable_recordings_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF and no more")
    pieces, notes = split_long([utterance(tmp_path / "a.wav", 300.0)])
    assert pieces == ()
    assert "cannot decode" in notes[0].reason


def test_other_window_lengths(make_audio: MakeAudio) -> None:
    pieces, _ = split_long(read_corpus(make_audio("a.wav", 9.0)).utterances, max_seconds=2.0)
    assert len(pieces) >= 5
    assert max(piece.audio.duration for piece in pieces) <= 2.0
