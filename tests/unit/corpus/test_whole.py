"""Recordings put together from their segments."""

import json
from pathlib import Path

import numpy as np
import soundfile

from whisperstill.corpus import joined, read_corpus


def write(folder: Path, rows: list[dict[str, object]]) -> Path:
    for row in rows:
        soundfile.write(folder / str(row["audio"]), np.zeros(16_000, np.float32), 16_000)
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_segments_become_their_recording(tmp_path: Path) -> None:
    segments = [
        {"start": 0.5, "end": 0.7, "text": "THREE", "speaker": "b"},
        {"start": 0.1, "end": 0.3, "text": "ONE", "speaker": "a"},
        {"start": 0.2, "end": 0.9, "text": "TWO", "speaker": "a"},  # ends last, starts second
    ]
    rows: list[dict[str, object]] = [
        {"id": "talk", "audio": "talk.wav", "language": "en", "segments": segments},
        {"id": "alone", "audio": "alone.wav", "text": "FOUR"},
    ]
    corpus = read_corpus(write(tmp_path, rows))
    assert len(corpus.utterances) == 4
    talk, alone = joined(corpus).utterances
    assert (talk.id, talk.text, talk.session) == ("talk", "ONE TWO THREE", "talk")
    assert (talk.audio.start, talk.audio.duration) == (0.1, 0.8)
    assert (talk.language, talk.speaker) == ("en", None)
    assert alone == corpus.utterances[-1]  # a recording of one utterance is left as it is


def test_a_missing_text_is_missing_in_the_whole(tmp_path: Path) -> None:
    segments = [{"start": 0, "end": 0.4, "text": "ONE"}, {"start": 0.4, "end": 0.9, "text": None}]
    (whole,) = joined(read_corpus(write(tmp_path, [{"audio": "a.wav", "segments": segments}]))).utterances
    assert whole.text is None


def test_a_session_of_several_files_names_none_of_them(tmp_path: Path) -> None:
    segments = [{"start": 0, "end": 0.4, "text": "ONE"}, {"start": 0.4, "end": 0.9, "text": ""}]
    rows: list[dict[str, object]] = [
        {"audio": name, "session": "meeting", "segments": segments} for name in ("a.wav", "b.wav")
    ]
    found = joined(read_corpus(write(tmp_path, rows))).utterances
    assert [Path(one.id).name for one in found] == ["a", "b"]
    assert [one.text for one in found] == ["ONE", "ONE"]
