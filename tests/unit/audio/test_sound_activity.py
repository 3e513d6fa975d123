"""Cuts cover everything, fall into pauses, and are the same from a stream."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings, strategies as st

from whisperstill.audio.sound_activity import cut_at_silences, cut_file, speech_spans
from whisperstill.errors import AudioError
from whisperstill.units import SAMPLE_RATE


def speech_like(seconds: float, pauses: list[tuple[float, float]], seed: int = 0) -> np.ndarray:
    """Noise with quiet stretches `(start, duration)`."""
    waveform = np.random.default_rng(seed).uniform(-0.3, 0.3, round(seconds * SAMPLE_RATE)).astype(np.float32)
    for start, duration in pauses:
        waveform[round(start * SAMPLE_RATE) : round((start + duration) * SAMPLE_RATE)] *= 0.003
    return waveform


def check(pieces: list[tuple[float, float]], samples: int, max_seconds: float) -> None:
    end = 0
    for start, duration in pieces:
        assert round(start * SAMPLE_RATE) == end
        assert 0 < duration <= max_seconds
        end += round(duration * SAMPLE_RATE)
    assert end == samples


def test_cuts_fall_into_the_middle_of_pauses() -> None:
    pauses = [(11.0, 0.6), (22.0, 0.6), (29.5, 0.08), (44.0, 0.7), (70.0, 0.5)]
    pieces = cut_at_silences([speech_like(80.0, pauses)])
    check(pieces, 80 * SAMPLE_RATE, 30.0)
    cuts = [start for start, _ in pieces[1:]]
    assert cuts == pytest.approx([22.3, 44.35, 70.25], abs=0.06)


@given(
    samples=st.integers(0, 90 * SAMPLE_RATE),
    max_seconds=st.sampled_from([1.0, 7.5, 15.0, 29.999, 30.0]),
    seed=st.integers(0, 3),
)
@settings(max_examples=25, deadline=None)
def test_pieces_cover_everything(samples: int, max_seconds: float, seed: int) -> None:
    waveform = speech_like(samples / SAMPLE_RATE, [], seed)[:samples]
    pieces = cut_at_silences([waveform], max_seconds)
    check(pieces, samples, max_seconds)
    assert cut_at_silences([waveform], max_seconds) == pieces
    assert [duration for _, duration in pieces[1:] if not duration >= 0.0999 * max_seconds] == []


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_sound_without_any_contrast(value: float) -> None:
    waveform = np.full(100 * SAMPLE_RATE + 77, value, np.float32)
    check(cut_at_silences([waveform]), len(waveform), 30.0)


def test_a_waveform_that_fits_is_one_piece() -> None:
    assert cut_at_silences([np.zeros(30 * SAMPLE_RATE, np.float32)]) == [(0.0, 30.0)]
    assert len(cut_at_silences([np.zeros(30 * SAMPLE_RATE + 1, np.float32)])) == 2
    assert cut_at_silences([np.zeros(0, np.float32)]) == []


def test_a_file_is_cut_as_the_array_is(tmp_path: Path) -> None:
    waveform = speech_like(95.3217, [(20, 0.4), (41.5, 0.3), (77, 1)])
    soundfile.write(tmp_path / "a.wav", waveform, SAMPLE_RATE, subtype="FLOAT")
    assert cut_file(tmp_path / "a.wav") == cut_at_silences([waveform])
    part = cut_file(tmp_path / "a.wav", 10.0, start=15.0, duration=40.0)
    expected = cut_at_silences([waveform[15 * SAMPLE_RATE : 55 * SAMPLE_RATE]], 10.0)
    assert part == [(start + 15.0, duration) for start, duration in expected]


def test_a_file_with_nothing_in_it(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0, np.float32), SAMPLE_RATE)
    with pytest.raises(AudioError, match="got none"):
        cut_file(tmp_path / "a.wav")


def test_pieces_of_no_length() -> None:
    with pytest.raises(ValueError, match="at least"):
        cut_at_silences([np.zeros(1000, np.float32)], 0.1)


def test_speech_spans_leave_out_pauses_and_clicks() -> None:
    waveform = speech_like(10.0, [(0.0, 1.0), (3.0, 0.2), (5.0, 2.0), (9.0, 1.0)])
    waveform[6 * SAMPLE_RATE : 6 * SAMPLE_RATE + 300] = 0.3  # a click of 19 ms
    spans = speech_spans(waveform)
    assert np.array(spans) == pytest.approx(np.array([(1.0, 4.0), (7.0, 2.0)]), abs=0.02)


@pytest.mark.parametrize("samples", [0, 1, 159, 16000])
def test_silence_has_no_speech(samples: int) -> None:
    assert speech_spans(np.zeros(samples, np.float32)) == []


def test_sound_without_pause_is_one_span() -> None:
    assert speech_spans(speech_like(3.0, [])) == [(0.0, 3.0)]
