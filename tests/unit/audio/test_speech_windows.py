"""Windows hold all speech, fit, are cut in pauses, and do not depend on streaming."""

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from whisperstill.audio.speech_windows import WindowGrouper, stream_speech_windows
from whisperstill.audio.vad import VadOptions, detect_speech_spans
from whisperstill.errors import SettingsError
from whisperstill.units import SAMPLE_RATE

Spans = list[tuple[float, float]]


def group_into_windows(spans: Spans, max_seconds: float = 30.0, max_pause: float = math.inf) -> Spans:
    """Windows `(start, duration)` in seconds that hold these spans."""
    grouper = WindowGrouper(max_seconds, max_pause)
    windows = grouper.add_spans(spans) + grouper.close()
    return [(begin / SAMPLE_RATE, (end - begin) / SAMPLE_RATE) for begin, end in windows]


def bursts(spans: Spans, seconds: float) -> np.ndarray:
    """Sound modulated like speech in these spans, near silence elsewhere."""
    rng = np.random.default_rng(0)
    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    level = np.full(len(times), 1e-4)
    for start, duration in spans:
        level[(times >= start) & (times < start + duration)] = 1.0
    wave = 0.1 * level * (0.55 + 0.45 * np.sin(2 * np.pi * 4 * times)) * rng.normal(size=len(times))
    waveform: np.ndarray = wave.astype(np.float32)
    return waveform


def test_cuts_fall_into_the_longest_pause_of_the_second_half() -> None:
    spans = [(0.0, 8.0), (12.0, 6.0), (19.5, 5.0), (25.0, 3.0), (28.2, 4.0), (40.0, 1.0)]
    assert group_into_windows(spans) == [(0.0, 18.0), (19.5, 21.5)]


def test_the_fullest_window_where_none_is_half_full() -> None:
    assert group_into_windows([(0, 3), (5, 4), (10, 29)]) == [(0, 9), (10, 29)]


def test_spans_that_fit_are_one_window() -> None:
    assert group_into_windows([(1.0, 2.0), (28.0, 3.0)]) == [(1.0, 30.0)]
    assert group_into_windows([]) == []


def test_max_pause_ends_a_window() -> None:
    spans = [(0.0, 2.0), (6.0, 1.0), (12.5, 1.0)]
    assert group_into_windows(spans, max_pause=5.0) == [(0.0, 7.0), (12.5, 1.0)]
    assert group_into_windows(spans) == [(0.0, 13.5)]


def test_a_long_span_is_cut_into_equal_parts() -> None:
    assert group_into_windows([(10.0, 75.0)]) == [(10.0, 25.0), (35.0, 25.0), (60.0, 25.0)]


@given(
    st.lists(st.tuples(st.floats(0, 20), st.floats(0.01, 33)), max_size=25),
    st.sampled_from([5.0, 15.0, 30.0]),
    st.sampled_from([1.0, math.inf]),
)
@settings(deadline=None)
def test_windows_hold_all_and_fit(parts: list[tuple[float, float]], most: float, pause: float) -> None:
    spans, time = [], 0.0
    for gap, duration in parts:
        spans.append((time + gap, duration))
        time += gap + duration
    windows = group_into_windows(spans, most, pause)
    assert [duration for _, duration in windows if not 0 < duration <= most + 1e-4] == []
    ends = [start + duration for start, duration in windows]
    assert [end for end, (start, _) in zip(ends, windows[1:], strict=False) if not end <= start + 1e-4] == []
    for start, duration in spans:
        inside = sum(max(0.0, min(a + b, start + duration) - max(a, start)) for a, b in windows)
        assert inside == pytest.approx(duration, abs=1e-3)
    for start, duration in windows:  # nothing but speech at its ends
        assert any(abs(start - a) < 1e-3 or a < start < a + b for a, b in spans)
        assert any(abs(start + duration - a - b) < 1e-3 or a < start + duration < a + b for a, b in spans)


@pytest.mark.parametrize("portion", [1600, 48_000, 10_000_000])
@pytest.mark.parametrize("pause", [2.0, math.inf])
def test_streamed_windows_equal_grouped_spans(portion: int, pause: float) -> None:
    rng = np.random.default_rng(3)
    spans, time = [], 1.0
    while time < 170:
        spans.append((time, float(rng.uniform(0.5, 9))))
        time += spans[-1][1] + float(rng.choice([0.5, 1.0, 2.5, 18.0], p=[0.5, 0.3, 0.15, 0.05]))
    audio = bursts(spans, 200.0)
    options = VadOptions(speech_pad=0.1)
    expected = group_into_windows(list(detect_speech_spans([audio], options, "energy")), 30.0, pause)
    blocks = (audio[first : first + portion] for first in range(0, len(audio), portion))
    windows = list(stream_speech_windows(blocks, options, "energy", 30.0, pause))
    assert len(expected) >= 5
    np.testing.assert_allclose([(start, len(wave) / SAMPLE_RATE) for start, wave in windows], expected, atol=1e-6)
    for start, wave in windows:
        begin = round(start * SAMPLE_RATE)
        np.testing.assert_array_equal(wave, audio[begin : begin + len(wave)])


def test_a_window_comes_before_the_stream_is_over() -> None:
    audio = bursts([(0.5, 6.0), (8.0, 5.0)], 80.0)
    used = 0

    def blocks() -> object:
        nonlocal used
        for first in range(0, len(audio), 16_000):
            used += 1
            yield audio[first : first + 16_000]

    next(stream_speech_windows(blocks(), method="energy"))  # type: ignore[arg-type]
    assert used <= 61
    used = 0
    next(stream_speech_windows(blocks(), method="energy", max_pause=2.0))  # type: ignore[arg-type]
    assert used <= 30


def test_windows_of_no_length() -> None:
    with pytest.raises(SettingsError, match="max_seconds must be above 0"):
        group_into_windows([], 0.0)
