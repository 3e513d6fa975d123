"""Texts of segments joined, and compression ratios."""

from whisperstill.decode.output.transcript import Segment, compression_ratio, join_segments


def segment(text: str) -> Segment:
    return Segment(0, 0, 0.0, 1.0, text, (), -0.1, 1.0, 0.0)


def test_missing_spaces_between_segments_are_inserted() -> None:
    segments = [segment(text) for text in (" one", "two", " three")]
    assert join_segments(segments, "en") == "one two three"
    assert join_segments(segments, "ja") == "onetwo three"
    assert join_segments([], "en") == ""


def test_compression_ratio_of_repetitive_text_is_high() -> None:
    assert compression_ratio("") == 0
    assert compression_ratio("é" * 50) > compression_ratio("e" * 50)  # bytes, not characters
    assert compression_ratio("a b " * 100) > 2.4 > compression_ratio("the quick brown fox jumps over the lazy dog")
