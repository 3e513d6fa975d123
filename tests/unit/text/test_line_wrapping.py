"""Line wrapping of subtitles."""

import pytest
from hypothesis import given, strategies as st

from whisperstill.errors import SettingsError
from whisperstill.text.line_wrapping import LineOptions, split_breakable, wrap_text


def test_words_are_not_broken() -> None:
    assert wrap_text(" a bb  ccc incomprehensibilities d", 6, "en") == ["a bb", "ccc", "incomprehensibilities", "d"]


@pytest.mark.parametrize(
    ("text", "width", "language", "lines"),
    [
        ("今日は、いい天気。", 3, "ja", ["今日", "は、い", "い天", "気。"]),
        ("这是GPU卡「好」吗？", 4, "zh", ["这是", "GPU卡", "「好」", "吗？"]),
        ("ที่นี่", 2, "th", ["ที่", "นี่"]),
    ],
    ids=["ja", "zh", "th"],
)
def test_unspaced_languages_break_between_characters(text: str, width: int, language: str, lines: list[str]) -> None:
    wrapped = wrap_text(text, width, language)
    assert wrapped == lines
    assert [line for line in wrapped if line[0] in "。、？」"] == []


@given(st.text("ab é今。", max_size=40), st.integers(1, 12), st.sampled_from(["en", "ja"]))
def test_no_line_is_too_long_or_empty_and_no_text_is_lost(text: str, width: int, language: str) -> None:
    lines = wrap_text(text, width, language)
    assert "".join("".join(lines).split()) == "".join(text.split())
    longest = {piece.strip() for piece in split_breakable(text, language)}
    assert [
        line for line in lines if not (line and line == line.strip() and (len(line) <= width or line in longest))
    ] == []


def test_all_problems_are_in_one_error() -> None:
    with pytest.raises(SettingsError) as caught:
        LineOptions(max_line_count=0, max_words_per_line=-1)
    for part in ("max_line_count must be at least 1, got 0", "max_words_per_line must", "needs max_line_width"):
        assert part in str(caught.value)
    with pytest.raises(SettingsError, match="cannot be combined with"):
        LineOptions(max_line_width=3, max_words_per_line=2)


def test_all_options_but_width_need_word_timestamps() -> None:
    assert LineOptions(max_line_width=10).options_needing_words == LineOptions().options_needing_words == ()
    LineOptions(max_line_width=10).check_word_timestamps(False)
    with pytest.raises(SettingsError, match="--word_timestamps"):
        LineOptions(highlight_words=True).check_word_timestamps(False)
    LineOptions(highlight_words=True).check_word_timestamps(True)
