"""Waveforms of utterances and windows, and reading ahead."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from whisperstill.audio.audio_files import load_audio
from whisperstill.corpus import load_utterance_waveform, load_window_waveform, pack
from whisperstill.corpus.loading import join_waveforms, load_waveforms, read_ahead
from whisperstill.errors import AudioError, CorpusError
from whisperstill.records import AudioSpan, Skipped, Utterance, Window
from whisperstill.units import SAMPLE_RATE, WINDOW_SAMPLES

MakeAudio = Callable[..., Path]


def utterance(path: Path, duration: float, start: float = 0.0, id_: str = "u") -> Utterance:
    return Utterance(id_, "c", AudioSpan(str(path), start, duration), None, None, "s", None)


def test_a_window_is_its_utterances_joined(make_audio: MakeAudio) -> None:
    members = [
        utterance(make_audio("a.wav", 1.0, value=0.25), 1.0, id_="a"),
        utterance(make_audio("b.wav", 4.0, rate=44100), 2.00003, start=1.5, id_="b"),
        utterance(make_audio("c.wav", 1.0, value=-0.5), 1.5, id_="c"),  # stated longer than it is
        utterance(make_audio("d.wav", 1.0, value=0.125), 0.5, id_="d"),  # stated shorter than it is
    ]
    (window,) = pack(members)
    waveform = load_window_waveform(window)
    assert waveform.shape == (WINDOW_SAMPLES,)
    assert waveform.dtype == np.float32
    offset = 0
    for member in members:
        clip = load_utterance_waveform(member)
        assert len(clip) == round(member.audio.duration * SAMPLE_RATE)
        np.testing.assert_array_equal(waveform[offset : offset + len(clip)], clip)
        offset += len(clip)
    second = waveform[SAMPLE_RATE : 3 * SAMPLE_RATE]
    np.testing.assert_array_equal(second, load_audio(members[1].audio.path, 1.5, 2.0))
    assert (waveform[48000:64000] == -0.5).all()
    assert not waveform[64000:72000].any()  # padded
    assert (waveform[72000:80000] == 0.125).all()
    assert not waveform[80000:].any()


def test_a_window_of_30_s_fits_and_no_more(make_audio: MakeAudio) -> None:
    path = make_audio("a.wav", 30.0, value=0.5)
    assert (load_window_waveform(pack([utterance(path, 30.0)])[0]) == 0.5).all()
    with pytest.raises(CorpusError, match="at most 480000 samples"):
        load_window_waveform(Window("w", (utterance(path, 30.0), utterance(path, 1.0)), 0))


def test_the_error_names_the_utterance_that_cannot_be_decoded(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"^bad-one: .*got nothing"):
        load_window_waveform(pack([utterance(tmp_path / "none.wav", 1.0, id_="bad-one")])[0])


def test_unreadable_utterances_are_skipped_with_their_error(make_audio: MakeAudio, tmp_path: Path) -> None:
    good = utterance(make_audio("a.wav", 1.0, value=0.25), 2.0, id_="good")
    missing = utterance(tmp_path / "none.wav", 1.0, id_="missing")
    readable, waveforms, skipped = load_waveforms([missing, good])
    assert readable == [good]
    assert [entry.source for entry in skipped] == ["c/missing"] and "got nothing" in skipped[0].reason
    assert isinstance(skipped[0], Skipped)
    assert len(waveforms[0]) == SAMPLE_RATE, "as long as decoded, not as long as stated"
    window = Window("w", (good,), 0)
    np.testing.assert_array_equal(join_waveforms(window, waveforms), load_window_waveform(window))


def test_the_next_item_is_loaded_while_the_current_one_is_used() -> None:
    started = [threading.Event() for _ in range(3)]

    def load(index: int) -> int:
        started[index].set()
        return index * 10

    results = []
    for index, loaded in enumerate(read_ahead(range(3), load)):
        assert index == 2 or started[index + 1].wait(timeout=30)
        results.append(loaded)
    assert results == [0, 10, 20]
    assert list(read_ahead([], load)) == []


def test_an_error_while_loading_is_raised_at_its_item() -> None:
    results = read_ahead([1, 0], lambda divisor: 1 // divisor)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
