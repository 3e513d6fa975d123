"""The sound of a window is that of its utterances, each where the offsets say."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from whisperstill.audio import load_audio
from whisperstill.corpus import load_utterance_waveform, load_window_waveform, pack
from whisperstill.errors import AudioError, CorpusError
from whisperstill.records import AudioSpan, Utterance, Window
from whisperstill.units import SAMPLE_RATE, WINDOW_SAMPLES

MakeAudio = Callable[..., Path]


def utterance(path: Path, duration: float, start: float = 0.0, id_: str = "u") -> Utterance:
    return Utterance(id_, "c", AudioSpan(str(path), start, duration), None, None, "s", None)


def test_concatenation(make_audio: MakeAudio) -> None:
    members = [
        utterance(make_audio("a.wav", 1.0, value=0.25), 1.0, id_="a"),
        utterance(make_audio("b.wav", 4.0, rate=44100), 2.00003, start=1.5, id_="b"),
        utterance(make_audio("c.wav", 1.0, value=-0.5), 1.5, id_="c"),  # states more than there is
        utterance(make_audio("d.wav", 1.0, value=0.125), 0.5, id_="d"),  # and less
    ]
    (window,) = pack(members)
    waveform = load_window_waveform(window)
    assert waveform.shape == (WINDOW_SAMPLES,)
    assert waveform.dtype == np.float32
    for member, offset in zip(members, window.offsets, strict=True):
        begin = round(offset * SAMPLE_RATE)
        sound = load_utterance_waveform(member)
        assert len(sound) == round(member.audio.duration * SAMPLE_RATE)
        assert np.array_equal(waveform[begin : begin + len(sound)], sound)
    second = waveform[SAMPLE_RATE : 3 * SAMPLE_RATE]
    assert np.array_equal(second, load_audio(members[1].audio.path, 1.5, 2.0))
    assert (waveform[48000:64000] == -0.5).all()
    assert not waveform[64000:72000].any()  # padded
    assert (waveform[72000:80000] == 0.125).all()
    assert not waveform[80000:].any()


def test_a_full_window(make_audio: MakeAudio) -> None:
    path = make_audio("a.wav", 30.0, value=0.5)
    assert (load_window_waveform(pack([utterance(path, 30.0)])[0]) == 0.5).all()
    with pytest.raises(CorpusError, match="at most 480000 samples"):
        load_window_waveform(Window("w", (utterance(path, 30.0), utterance(path, 1.0)), 0))


def test_what_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"^bad-one: .*found nothing"):
        load_window_waveform(pack([utterance(tmp_path / "none.wav", 1.0, id_="bad-one")])[0])
