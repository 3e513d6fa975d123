"""Random access to the recent part of a recording that is read once."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from whisperstill.audio.reader import AudioReader
from whisperstill.audio.sound_activity import cut_at_silences, cut_reader
from whisperstill.units import SAMPLE_RATE

SAMPLES = st.integers(0, 3000)
LOOKS = st.lists(st.tuples(st.sampled_from(["stretch", "goes_beyond", "forget"]), SAMPLES, SAMPLES), max_size=12)
BLOCKS = st.lists(st.integers(1, 700), max_size=6)


def recording(lengths: list[int]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Distinct samples, and the same samples in blocks."""
    samples = np.arange(1, sum(lengths) + 1, dtype=np.float32)
    return samples, np.split(samples, np.cumsum(lengths)[:-1]) if lengths else []


@settings(max_examples=150, deadline=None)
@given(BLOCKS, LOOKS)
def test_reads_equal_slices_of_an_array(lengths: list[int], looks: list[tuple[str, int, int]]) -> None:
    samples, blocks = recording(lengths)
    reader, forgotten = AudioReader(iter(blocks)), 0
    for what, first, more in looks:
        start = first / SAMPLE_RATE
        if what == "forget":
            reader.discard_before(start)
            forgotten = max(forgotten, min(first, reader._buffer_start))
            assert reader._buffer_start <= max(forgotten, first)
        elif what == "goes_beyond":
            assert reader.has_audio_after(start) == (len(samples) > max(first, forgotten))
        elif first < reader._buffer_start:
            with pytest.raises(ValueError, match="earlier audio was discarded"):
                reader.read(start, more / SAMPLE_RATE)
        else:
            np.testing.assert_array_equal(reader.read(start, more / SAMPLE_RATE), samples[first : first + more])
        assert reader.duration in (None, len(samples) / SAMPLE_RATE)
    held = reader._buffer_start
    rest = list(reader.drain())
    np.testing.assert_array_equal(np.concatenate([*rest, samples[:0]]), samples[held:])
    assert reader.duration == len(samples) / SAMPLE_RATE
    assert list(reader.drain()) == []


def test_no_more_is_read_than_requested() -> None:
    read = 0

    def blocks() -> Iterator[np.ndarray]:
        nonlocal read
        for _ in range(100):
            read += 1
            yield np.ones(1600, np.float32)

    reader = AudioReader(blocks())
    reader.read(0.0, 0.35)
    assert read == 4 and reader.duration is None
    reader.discard_before(0.3)
    assert len(reader._buffer) == 1600
    assert reader.has_audio_after(9.95) and not reader.has_audio_after(10.0)
    assert reader.duration == 10.0
    reader.discard_before(99.0)
    assert len(reader._buffer) == 0 and reader.duration == 10.0


def test_reads_are_copies() -> None:
    reader = AudioReader(iter([np.ones(10, np.float32)]))
    reader.read(0.0, 1.0)[:] = 7
    assert reader.read(0.0, 1.0).max() == 1


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("max_seconds", [5.0, 12.5, 30.0])
def test_a_stream_is_cut_as_the_array_is(seed: int, max_seconds: float) -> None:
    generator = np.random.default_rng(seed)
    seconds = generator.uniform(0.3, 100)
    loud = np.repeat(generator.choice([0.0, 0.01, 0.3, 1.0], round(seconds * 10) + 1).astype(np.float32), 1600)
    wave = loud[: round(seconds * SAMPLE_RATE)]
    wave = wave * generator.normal(0, 0.2, len(wave)).astype(np.float32)
    places = np.sort(generator.integers(0, len(wave), 9))
    reader = AudioReader(iter([block for block in np.split(wave, places) if len(block)]))
    pieces = list(cut_reader(reader, max_seconds))
    expected = cut_at_silences([wave], max_seconds)
    assert [start for start, _ in pieces] == pytest.approx([start for start, _ in expected], abs=1e-9)
    assert [len(piece) / SAMPLE_RATE for _, piece in pieces] == pytest.approx(
        [duration for _, duration in expected], abs=1e-9
    )
    np.testing.assert_array_equal(np.concatenate([piece for _, piece in pieces]), wave)


def test_a_cut_needs_lookahead() -> None:
    """Negative control: without lookahead the last piece could be a scrap."""
    wave = np.random.default_rng(0).normal(0, 0.2, round(30.4 * SAMPLE_RATE)).astype(np.float32)
    pieces = cut_at_silences([wave])
    assert min(seconds for _, seconds in pieces) >= 3
    assert cut_at_silences([wave[: 30 * SAMPLE_RATE]]) == [(0.0, 30.0)]
