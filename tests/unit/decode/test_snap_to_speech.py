"""Words next to pauses."""

import numpy as np
import pytest

from whisperstill.decode.output.transcript import Word
from whisperstill.decode.word_timestamps.snap_to_speech import (
    MAX_WORD_EXTENSION_S,
    snap_words_to_spans,
    snap_words_to_speech,
)

SPANS = [(1.0, 3.0), (4.0, 6.0)]


def fitted(*times: tuple[float, float], spans: list[tuple[float, float]] | None = None) -> list[tuple[float, float]]:
    words = [Word(start, end, f" {index}", 0.5) for index, (start, end) in enumerate(times)]
    snapped = snap_words_to_spans(words, SPANS if spans is None else spans)
    assert [word.word for word in snapped] == [word.word for word in words]
    return [(word.start, word.end) for word in snapped]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([(0.2, 2.0), (2.0, 3.6)], [(1.0, 2.0), (2.0, 3.0)]),  # cut back to the sound
        ([(1.3, 2.0), (2.0, 2.7)], [(1.0, 2.0), (2.0, 3.0)]),  # grown to it
        ([(1.0, 2.8), (2.8, 4.9)], [(1.0, 3.0), (4.0, 4.9)]),  # through a pause: moved behind it
        ([(1.0, 2.5), (2.5, 4.2)], [(1.0, 3.0), (4.0, 4.2)]),  # even with a smaller overlap
        ([(2.0, 4.2), (4.2, 6.0)], [(2.0, 3.0), (4.0, 6.0)]),  # but not with a tiny one
        ([(1.0, 1.2), (1.2, 2.0), (4.9, 5.0)], [(1.0, 1.2), (1.2, 2.0), (4.9, 5.0)]),  # too far away to grow
        ([(3.2, 3.5)], [(3.2, 3.5)]),  # in silence: unchanged
        ([(3.2, 3.2), (4.1, 5.9)], [(3.2, 3.2), (4.0, 6.0)]),
    ],
    ids=[
        "cut to the sound",
        "grown to the sound",
        "moved behind a pause",
        "moved despite a smaller overlap",
        "not moved for a tiny overlap",
        "too far to grow",
        "in silence",
        "empty word in silence",
    ],
)
def test_words_respect_pauses(before: list[tuple[float, float]], after: list[tuple[float, float]]) -> None:
    assert fitted(*before) == after


def test_without_pauses_words_are_unchanged() -> None:
    times = [(0.6, 2.0), (2.0, 3.6), (4.0, 4.0)]
    assert fitted(*times, spans=[]) == times
    assert fitted(*times, spans=[(0.0, 9.0)]) == times


def test_order_and_bounds_stay_for_any_words() -> None:
    generator = np.random.default_rng(0)
    for _ in range(300):
        edges = np.sort(generator.uniform(0, 30, 24)).round(2)
        cuts = np.sort(generator.uniform(0, 30, 8)).reshape(-1, 2).tolist()
        times = fitted(*zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True), spans=[(a, b) for a, b in cuts])
        flat = [time for pair in times for time in pair]
        assert flat == sorted(flat)
        assert 0 <= flat[0] and flat[-1] <= 30


def test_pauses_are_those_of_the_waveform() -> None:
    noise = np.random.default_rng(1).normal(0, 0.2, 48_000).astype(np.float32)
    noise[16_000:32_000] *= 1e-3
    words = [Word(0.0, 1.4, " one", 1.0), Word(1.4, 2.9, " two", 1.0)]
    first, second = snap_words_to_speech(words, noise)
    assert (first.start, first.end) == pytest.approx((0.0, 1.0), abs=0.02)
    assert (second.start, second.end) == pytest.approx((2.0, 3.0), abs=0.02)
    assert 0.1 <= MAX_WORD_EXTENSION_S
