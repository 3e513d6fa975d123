"""Properties of packing: every utterance once, no window too long, order kept, groups not mixed."""

from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st

from whisperstill.corpus.packing import fits, pack, window_id
from whisperstill.errors import CorpusError, SettingsError
from whisperstill.records import AudioSpan, Utterance, Window
from whisperstill.units import SAMPLE_RATE, WINDOW_SAMPLES


def make(id_: str, duration: float, speaker: str | None = "s", session: str | None = None, **more: str) -> Utterance:
    span = AudioSpan(f"{id_}.wav", 0.0, duration)
    return Utterance(id_, more.get("corpus", "c"), span, more.get("text"), more.get("language"), speaker, session)


names = st.sampled_from([None, "a", "b"])
durations = st.one_of(
    st.floats(1e-3, 30.0),
    st.sampled_from([0.1, 7.5, 10.0, 15.0, 29.9, 30.0, 1 / 3, 10.00003125, 5.000034]),
)


@st.composite
def corpora(draw: st.DrawFn) -> list[Utterance]:
    count = draw(st.integers(0, 40))
    return [
        Utterance(
            id=str(number),
            corpus=draw(st.sampled_from(["c", "d"])),
            audio=AudioSpan("x.wav", 0.0, draw(durations)),
            text=draw(st.sampled_from([None, "words"])),
            language=draw(st.sampled_from([None, "en"])),
            speaker=draw(names),
            session=draw(names),
        )
        for number in range(count)
    ]


def group(utterance: Utterance) -> tuple[object, ...]:
    whose = (utterance.speaker, None) if utterance.speaker else (None, utterance.session)
    alone = utterance.id if whose == (None, None) else None
    return (utterance.corpus, utterance.language, utterance.text is None, whose, alone)


def samples(window: Window) -> int:
    return sum(round(utterance.audio.duration * SAMPLE_RATE) for utterance in window.utterances)


@given(corpora(), st.integers(0, 3), st.integers(0, 5))
@settings(max_examples=150, deadline=None)
def test_every_utterance_is_packed_once_in_order(utterances: list[Utterance], packing: int, seed: int) -> None:
    windows = pack(utterances, packing_variant=packing, seed=seed)
    packed = [utterance for window in windows for utterance in window.utterances]
    assert Counter(packed) == Counter(utterances)
    assert len({window.id for window in windows}) == len(windows)
    for window in windows:
        assert window.packing_variant == packing
        assert window.duration <= 30.0 + 1e-6
        assert samples(window) <= WINDOW_SAMPLES
        assert len({group(utterance) for utterance in window.utterances}) == 1
    if packing == 0:
        order = {utterance: number for number, utterance in enumerate(utterances)}
        members = defaultdict(list)
        for utterance in packed:
            members[group(utterance)].append(order[utterance])
        assert [numbers for numbers in members.values() if numbers != sorted(numbers)] == []
    # Filled greedily: the first utterance of a window did not fit into the one before it.
    for before, after in pairwise(windows):
        if group(before.utterances[0]) == group(after.utterances[0]):
            joined = Window("", (*before.utterances, after.utterances[0]), packing)
            assert joined.duration > 30.0 - 1e-6 or samples(joined) > WINDOW_SAMPLES
    assert pack(utterances, packing_variant=packing, seed=seed) == windows


@given(corpora(), st.floats(30.0, 40.0, exclude_min=True))
@settings(max_examples=30, deadline=None)
def test_an_utterance_that_is_too_long_is_named(utterances: list[Utterance], duration: float) -> None:
    long = make("too-long", duration)
    if fits(long):  # less than a microsecond over
        assert duration < 30.000001
        return
    with pytest.raises(CorpusError, match="too-long of corpus c"):
        pack([*utterances, long])


def test_exactly_thirty_seconds_fit() -> None:
    assert len(pack([make("a", 30.0)])) == 1
    assert len(pack([make(str(number), 0.1) for number in range(300)])) == 1  # 0.1 has no exact float sum
    assert len(pack([make(str(number), 0.1) for number in range(301)])) == 2
    assert len(pack([make("a", 10.0), make("b", 20.0), make("c", 0.001)])) == 2


def test_samples_count_as_well_as_seconds() -> None:
    """160000.6 + 160000.6 + 159998.8 samples are 480000, but each is rounded by itself: 480001."""
    members = [make(str(number), value / SAMPLE_RATE) for number, value in enumerate((160000.6, 160000.6, 159998.8))]
    assert [len(window.utterances) for window in pack(members)] == [2, 1]


def test_groups_are_not_mixed() -> None:
    alone = [make("a", 1.0, None), make("b", 1.0, None)]
    assert len(pack(alone)) == 2
    assert len(pack([replace(item, session="x") for item in alone])) == 1
    assert len(pack([replace(item, speaker="s", session=item.id) for item in alone])) == 1
    for field, values in {"text": ("", None), "language": ("en", "de"), "corpus": ("c", "d")}.items():
        mixed = [replace(make("a", 1.0), **{field: values[0]}), replace(make("b", 1.0), **{field: values[1]})]
        assert len(pack(mixed)) == 2, field
    # A session with the name of a speaker is another group.
    assert len(pack([make("a", 1.0, "x"), make("b", 1.0, None, "x")])) == 2


def test_variants_reshuffle_the_same_audio() -> None:
    utterances = [make(str(number), 3.0 + number % 7) for number in range(60)]
    contents = [
        {
            tuple(item.id for item in window.utterances)
            for window in pack(utterances, packing_variant=packing, seed=seed)
        }
        for packing, seed in ((0, 0), (1, 0), (2, 0), (1, 1))
    ]
    assert [other for k, content in enumerate(contents) for other in contents[:k] if content & other] == []
    assert pack(utterances, seed=1) == pack(utterances, seed=2)  # variant 0 ignores the seed


def test_the_shuffle_of_a_group_does_not_depend_on_other_groups() -> None:
    mine, yours = [make(str(k), 9.0, "me") for k in range(20)], [make(str(k), 8.0, "you") for k in range(99, 130)]
    both = [window for window in pack(yours + mine, packing_variant=1) if window.utterances[0].speaker == "me"]
    assert both == pack(mine, packing_variant=1)
    assert both == pack(mine[::-1], packing_variant=1)


def test_the_window_id_depends_on_the_audio_alone() -> None:
    (window,) = pack([make("a", 1.0), make("b", 2.0)])
    assert window.id == "bb5338c74659f435", "ids of stores on users' disks must never change"
    moved = [replace(item, audio=replace(item.audio, path="elsewhere.wav"), text="x") for item in window.utterances]
    assert window_id(0, moved) == window.id
    assert len(window.id) == 16
    others = [
        window_id(1, window.utterances),
        window_id(0, window.utterances[::-1]),
        window_id(0, window.utterances[:1]),
        window_id(0, [replace(item, corpus="d") for item in window.utterances]),
        window_id(0, [replace(item, audio=replace(item.audio, start=0.5)) for item in window.utterances]),
    ]
    assert len({window.id, *others}) == 6


@pytest.mark.parametrize("max_seconds", [0.0, -1.0, 30.1])
def test_invalid_window_lengths_are_errors(max_seconds: float) -> None:
    with pytest.raises(SettingsError, match="max_seconds must be"):
        pack([], max_seconds=max_seconds)


def test_shorter_windows() -> None:
    assert len(pack([make("a", 5.0), make("b", 5.0), make("c", 5.0)], max_seconds=10.0)) == 2
    with pytest.raises(CorpusError, match="at most 4 s"):
        pack([make("a", 5.0)], max_seconds=4.0)


@given(corpora(), st.integers(0, 3), st.floats(0.0, 30.0))
@settings(max_examples=60, deadline=None)
def test_windows_of_random_length_contain_every_utterance(
    utterances: list[Utterance], packing: int, least: float
) -> None:
    windows = pack(utterances, packing_variant=packing, min_seconds=least)
    assert Counter(u for window in windows for u in window.utterances) == Counter(utterances)
    assert [window for window in windows if not samples(window) <= WINDOW_SAMPLES] == []
    if packing == 0:
        assert windows == pack(utterances)


def test_random_lengths_are_between_the_limits() -> None:
    utterances = [make(str(number), 1.0) for number in range(2000)]
    lengths = [window.duration for window in pack(utterances, packing_variant=1, min_seconds=5.0)][:-1]
    assert min(lengths) >= 4.0 and max(lengths) <= 30.0
    assert 14 < sum(lengths) / len(lengths) < 20
    assert len({round(length) for length in lengths}) > 15
    assert {window.duration for window in pack(utterances, packing_variant=1)} == {30.0, 20.0}, (
        "without it all are full"
    )
    with pytest.raises(SettingsError, match="min_seconds must be"):
        pack(utterances, min_seconds=31.0)
