"""Cues keep the words, their order and their times, and never overlap, whatever the options."""

import itertools
import re
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from whisperstill.decode.output.subtitles import Cue, make_cues, remove_cue_overlaps
from whisperstill.decode.output.transcript import Segment, Transcript, Word
from whisperstill.decode.output.writers import to_srt, to_vtt
from whisperstill.errors import SettingsError
from whisperstill.text.line_wrapping import LineOptions


def transcript(*texts: str, language: str = "en", pause: float = 0.0, words: bool = True) -> Transcript:
    """Segments whose words last 0.4 s with 0.1 s between, and a pause between segments."""
    time, segments = 0.0, []
    for number, text in enumerate(texts):
        parts = re.findall(r"\s*\S+", text) if language == "en" else list(text)
        timed = tuple(
            Word(round(time + 0.5 * place, 3), round(time + 0.5 * place + 0.4, 3), part, 0.5)
            for place, part in enumerate(parts)
        )
        segments.append(
            Segment(number, 0, time, timed[-1].end, text, (1,), -0.2, 1.0, 0.1, words=timed if words else None)
        )
        time = round(timed[-1].end + 0.1 + pause, 3)
    return Transcript("".join(texts), tuple(segments), language, 1.0, time)


TALK = transcript(" One two three four.", " Five six seven.")


def texts(*arguments: Transcript | LineOptions) -> list[str]:
    return [cue.text for cue in make_cues(*arguments)]  # type: ignore[arg-type]


def test_without_options_each_segment_is_a_cue() -> None:
    assert make_cues(TALK) == [Cue(0, 1900, "One two three four."), Cue(2000, 3400, "Five six seven.")]


def test_width_alone_wraps_within_segments() -> None:
    expected = ["One two\nthree\nfour.", "Five six\nseven."]
    assert texts(TALK, LineOptions(max_line_width=9)) == expected
    assert texts(transcript(" One two three four.", " Five six seven.", words=False), LineOptions(9)) == expected


def test_width_and_count_make_cues_across_segments() -> None:
    cues = make_cues(TALK, LineOptions(max_line_width=13, max_line_count=2))
    assert [cue.text for cue in cues] == ["One two three\nfour. Five", "six seven."]
    assert [(cue.start, cue.end) for cue in cues] == [(0, 2400), (2500, 3400)]


def test_a_long_pause_ends_a_cue_that_may_cross_segments() -> None:
    options = LineOptions(max_line_width=50, max_line_count=2)
    assert texts(transcript(" One.", " Two.", pause=1.0), options) == ["One. Two."]
    assert texts(transcript(" One.", " Two.", pause=3.0), options) == ["One.", "Two."]


def test_words_per_cue() -> None:
    cues = make_cues(TALK, LineOptions(max_words_per_line=3))
    assert [cue.text for cue in cues] == ["One two three", "four.", "Five six seven."]
    assert [(cue.start, cue.end) for cue in cues] == [(0, 1400), (1500, 1900), (2000, 3400)]


def test_words_are_underlined_one_by_one() -> None:
    cues = make_cues(transcript(" One two."), LineOptions(highlight_words=True))
    assert cues == [Cue(0, 400, "<u>One</u> two."), Cue(400, 500, "One two."), Cue(500, 900, "One <u>two.</u>")]


def test_underlined_words_keep_their_lines() -> None:
    options = LineOptions(max_line_width=7, max_line_count=2, highlight_words=True)
    cue_texts = texts(transcript(" One two three four."), options)
    assert cue_texts[0] == "<u>One</u> two\nthree" and cue_texts[4] == "One two\n<u>three</u>"
    assert re.sub("</?u>", "", cue_texts[4]) == cue_texts[1]


def test_languages_without_spaces() -> None:
    talk = transcript("今日はいい天気です。", "そうですね。", language="ja")
    assert texts(talk, LineOptions(max_words_per_line=4)) == ["今日はい", "い天気で", "す。", "そうです", "ね。"]
    assert texts(talk, LineOptions(max_line_width=5, max_line_count=1))[:2] == ["今日はいい", "天気です。"]
    for cue in make_cues(talk, LineOptions(max_line_width=4)):
        assert [line for line in cue.text.split("\n") if not (len(line) <= 5 and line[0] != "。")] == []


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (LineOptions(max_line_width=20, max_line_count=2), "max_line_count needs"),
        (LineOptions(max_words_per_line=2, highlight_words=True), "max_words_per_line and highlight_words need"),
    ],
    ids=["max_line_count", "max_words_per_line and highlight_words"],
)
def test_options_that_need_words_raise_without_them(options: LineOptions, names: str) -> None:
    with pytest.raises(SettingsError, match=f"{names} word timestamps: add --word_timestamps"):
        make_cues(transcript(" One two.", words=False), options)


def test_a_segment_without_any_word_keeps_its_text() -> None:
    empty = replace(TALK, segments=(replace(TALK.segments[0], words=()), TALK.segments[1]))
    assert texts(empty, LineOptions(max_words_per_line=3))[0] == "One two three four."
    silent = replace(TALK, segments=(replace(TALK.segments[0], words=(), text=" "),))
    assert texts(silent, LineOptions(max_words_per_line=3)) == texts(silent) == []


def test_cue_text_cannot_end_the_cue() -> None:
    evil = transcript(" a --> b", " c\n\nd")
    for options in (LineOptions(), LineOptions(max_words_per_line=2), LineOptions(highlight_words=True)):
        for cue in make_cues(evil, options):
            assert "-->" not in cue.text and "\n" not in cue.text and cue.text


OPTIONS = [
    LineOptions(),
    LineOptions(max_line_width=10),
    LineOptions(max_line_width=10, max_line_count=2),
    LineOptions(max_words_per_line=2),
    LineOptions(highlight_words=True),
    LineOptions(max_line_width=12, max_line_count=1, highlight_words=True),
]
TIMES = st.lists(st.tuples(st.floats(0, 60), st.floats(0, 60)), min_size=1, max_size=12)


def disorder(times: list[tuple[float, float]]) -> Transcript:
    """Words with any times at all, three to a segment."""
    words = [Word(start, end, f" w{number}", 0.5) for number, (start, end) in enumerate(times)]
    groups = [tuple(words[first : first + 3]) for first in range(0, len(words), 3)]
    segments = tuple(
        Segment(n, 0, g[0].start, g[-1].end, "".join(w.word for w in g), (), 0, 1, 0, words=g)
        for n, g in enumerate(groups)
    )
    return Transcript("", segments, "en", 1.0, 60.0)


def cue_problems(cues: list[Cue]) -> list[str]:
    """Cues that overlap the next one, have no duration or no text."""
    problems = [f"{cue} overlaps {after}" for cue, after in itertools.pairwise(cues) if cue.end > after.start]
    return problems + [f"{cue} is empty" for cue in cues if cue.start >= cue.end or not cue.text.strip()]


@given(TIMES, st.sampled_from(OPTIONS))
def test_cues_never_overlap_and_are_never_empty(times: list[tuple[float, float]], options: LineOptions) -> None:
    unordered = disorder(times)
    cues = make_cues(unordered, options)
    assert cue_problems(cues) == []
    if not options.highlight_words:
        assert " ".join(cue.text for cue in cues).split() == [f"w{number}" for number in range(len(times))]
    else:
        assert re.findall(r"<u>(\w+)</u>", " ".join(cue.text for cue in cues)) == [f"w{n}" for n in range(len(times))]


def test_cue_problems_are_detected() -> None:
    assert cue_problems([Cue(0, 10, "a"), Cue(5, 20, "b")])
    assert cue_problems([Cue(0, 0, "a")])
    assert cue_problems(remove_cue_overlaps([Cue(0, 10, "a"), Cue(5, 5, "b"), Cue(5, 20, "c")])) == []


def test_order_keeps_what_is_in_order() -> None:
    cues = [Cue(0, 10, "a"), Cue(10, 20, "b"), Cue(25, 30, "c")]
    assert remove_cue_overlaps(cues) == cues
    assert remove_cue_overlaps([Cue(0, 12, "a"), Cue(10, 20, "b")]) == [Cue(0, 10, "a"), Cue(10, 20, "b")]


def test_srt_and_vtt_take_the_same_cues() -> None:
    options = LineOptions(max_words_per_line=2)
    assert to_srt(TALK, options).startswith("1\n00:00:00,000 --> 00:00:00,900\nOne two\n\n2\n")
    assert to_vtt(TALK, options).count("-->") == to_srt(TALK, options).count("-->") == 4
