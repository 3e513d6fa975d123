"""Transcripts as files, in openai/whisper's formats."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from whisperstill.decode.output.transcript import FilteredSegment, Segment, Transcript, Word
from whisperstill.decode.output.writers import WRITERS, TranscriptFiles, format_timestamp, to_json
from whisperstill.errors import SettingsError
from whisperstill.text.line_wrapping import LineOptions


def segment(number: int, start: float, end: float, text: str) -> Segment:
    return Segment(number, 0, start, end, text, (1, 2), -0.25, 0.5, 0.125)


TRANSCRIPT = Transcript(
    "Good  day. a --> b é",
    (segment(0, 0.0, 1.5, " Good  day."), segment(1, 3661.25, 3662.0, " a --> b\té\n")),
    "en",
    1.0,
    3700.0,
)


def write_transcript(
    transcript: Transcript, directory: Path, output_format: str = "all", lines: LineOptions | None = None
) -> list[Path]:
    """Transcript files of `talk.wav`."""
    audio = Path("talk.wav")
    return TranscriptFiles(directory, output_format, lines or LineOptions(), [audio]).write(audio, transcript)


@pytest.mark.parametrize(
    ("seconds", "plain", "srt"),
    [
        (0.0, "00:00.000", "00:00:00,000"),
        (59.9996, "01:00.000", "00:01:00,000"),
        (3661.25, "01:01:01.250", "01:01:01,250"),
        (-0.01, "00:00.000", "00:00:00,000"),
        (360_000.0, "100:00:00.000", "100:00:00,000"),
    ],
)
def test_timestamps(seconds: float, plain: str, srt: str) -> None:
    assert format_timestamp(seconds) == plain
    assert format_timestamp(seconds, ",", True) == srt


def test_txt() -> None:
    assert WRITERS["txt"](TRANSCRIPT, None) == "Good  day.\na --> b\té\n"


def test_srt() -> None:
    assert WRITERS["srt"](TRANSCRIPT, None) == (
        "1\n00:00:00,000 --> 00:00:01,500\nGood day.\n\n2\n01:01:01,250 --> 01:01:02,000\na -> b é\n\n"
    )


def test_vtt() -> None:
    assert WRITERS["vtt"](TRANSCRIPT, None) == (
        "WEBVTT\n\n00:00.000 --> 00:01.500\nGood day.\n\n01:01:01.250 --> 01:01:02.000\na -> b é\n\n"
    )


def test_tsv() -> None:
    assert WRITERS["tsv"](TRANSCRIPT, None) == "start\tend\ttext\n0\t1500\tGood day.\n3661250\t3662000\ta --> b é\n"


def test_json_has_the_keys_of_openai() -> None:
    content = json.loads(WRITERS["json"](TRANSCRIPT, None))
    assert {"text", "segments", "language"} <= content.keys()
    assert set(content["segments"][0]) == {
        *("id", "seek", "start", "end", "text", "tokens"),
        *("temperature", "avg_logprob", "compression_ratio", "no_speech_prob"),
    }
    assert content["segments"][1]["text"] == " a --> b\té\n"


def test_json_has_words_and_filtered_segments_only_if_there_are_any() -> None:
    plain = json.loads(to_json(TRANSCRIPT))
    assert "filtered_segments" not in plain and "words" not in plain["segments"][0]
    worded = replace(TRANSCRIPT.segments[0], words=(Word(0.0, 0.5, " Good", 0.75),))
    rich = replace(
        TRANSCRIPT, segments=(worded,), filtered_segments=(FilteredSegment(4.0, 5.0, " Thanks.", "silence"),)
    )
    content = json.loads(to_json(rich))
    assert content["segments"][0]["words"] == [{"word": " Good", "start": 0.0, "end": 0.5, "probability": 0.75}]
    assert content["filtered_segments"] == [{"start": 4.0, "end": 5.0, "text": " Thanks.", "reason": "silence"}]


def test_no_format_is_written_if_one_fails(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--word_timestamps"):
        write_transcript(TRANSCRIPT, tmp_path / "new", "all", LineOptions(highlight_words=True))
    assert not (tmp_path / "new").exists()
    write_transcript(TRANSCRIPT, tmp_path / "new", "srt", LineOptions(max_line_width=5))
    assert "Good\nday." in (tmp_path / "new" / "talk.srt").read_text()


def test_all_formats_are_written(tmp_path: Path) -> None:
    paths = write_transcript(TRANSCRIPT, tmp_path / "new")
    assert {path.name for path in paths} == {f"talk.{name}" for name in WRITERS}
    assert {path.name for path in (tmp_path / "new").iterdir()} == {path.name for path in paths}
    for path in paths:
        assert path.read_text("utf-8") == WRITERS[path.suffix[1:]](TRANSCRIPT, None)


def test_an_empty_transcript_gives_readable_files(tmp_path: Path) -> None:
    nothing = Transcript("", (), "en", 1.0, 3.0)
    texts = {path.suffix[1:]: path.read_text() for path in write_transcript(nothing, tmp_path)}
    assert texts["txt"] == texts["srt"] == ""
    assert texts["vtt"] == "WEBVTT\n\n"


def test_formats_are_resolved_by_name(tmp_path: Path) -> None:
    assert [path.suffix for path in write_transcript(TRANSCRIPT, tmp_path, "srt")] == [".srt"]
    assert [path.suffix for path in write_transcript(TRANSCRIPT, tmp_path)] == [".txt", ".vtt", ".srt", ".tsv", ".json"]
    with pytest.raises(SettingsError, match="expected an output format"):
        write_transcript(TRANSCRIPT, tmp_path, "docx")
