"""JSONL manifests: all fields, and every kind of invalid line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from whisperstill.corpus import Corpus, read_corpus
from whisperstill.errors import CorpusError


def write(folder: Path, *rows: Any, name: str = "manifest.jsonl") -> Path:
    folder.mkdir(exist_ok=True)
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    (folder / name).write_bytes(b"\n".join(lines) + b"\n")
    return folder / name


@pytest.fixture
def good(make_audio: Callable[..., Path]) -> dict[str, Any]:
    make_audio("set/audio/a.wav", 2.0)
    return {"id": "a", "audio": "audio/a.wav", "text": "ONE", "duration_s": 2.0, "language": "en", "speaker": "7"}


def test_all_fields(tmp_path: Path, good: dict[str, Any]) -> None:
    manifest = write(tmp_path / "set", {**good, "chapter": 12})
    for source in (manifest, tmp_path / "set", str(manifest)):
        corpus = read_corpus(source)
        assert corpus.name == "set"
        assert corpus.skipped == ()
        (utterance,) = corpus.utterances
        assert (utterance.id, utterance.corpus, utterance.text) == ("a", "set", "ONE")
        assert (utterance.language, utterance.speaker, utterance.session) == ("en", "7", "12")
        assert (Path(utterance.audio.path), utterance.audio.start) == (tmp_path / "set/audio/a.wav", 0.0)
        assert utterance.audio.duration == 2.0


def test_only_audio_is_required(tmp_path: Path, good: dict[str, Any]) -> None:
    (utterance,) = read_corpus(write(tmp_path / "set", {"audio": good["audio"]}), language="de").utterances
    assert utterance.id == "audio/a"
    assert utterance.text is utterance.speaker is utterance.session is None
    assert utterance.language == "de"
    assert utterance.audio.duration == 2.0  # measured


def test_a_stated_duration_is_not_measured(
    tmp_path: Path, good: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> float:
        raise AssertionError("measured")

    monkeypatch.setattr("whisperstill.corpus.reading.probe_duration", refuse)
    (utterance,) = read_corpus(write(tmp_path / "set", {**good, "duration_s": 1.5})).utterances
    assert utterance.audio.duration == 1.5
    with pytest.raises(AssertionError, match="measured"):
        read_corpus(write(tmp_path / "set", {"audio": good["audio"]}))


def test_null_text_differs_from_empty_text(tmp_path: Path, good: dict[str, Any]) -> None:
    rows = [{**good, "id": "unknown", "text": None}, {**good, "id": "silent", "text": ""}]
    assert [utterance.text for utterance in read_corpus(write(tmp_path / "set", *rows)).utterances] == [None, ""]


def test_the_corpus_is_named_after_its_manifest(tmp_path: Path, good: dict[str, Any]) -> None:
    other = {"audio_filepath": good["audio"], "offset": 0.5, "duration": 1.0, "text": "TWO", "lang": "EN-us"}
    (utterance,) = read_corpus(write(tmp_path / "set", other, name="train.jsonl")).utterances
    assert utterance.corpus == "set-train"
    assert (utterance.audio.start, utterance.audio.duration, utterance.language) == (0.5, 1.0, "en")


def test_segments_become_utterances(tmp_path: Path, good: dict[str, Any]) -> None:
    segments = [
        {"id": "s1", "start": 0, "end": 0.7, "text": "ONE"},
        {"start": 0.7, "end": 2.05, "text": None, "speaker": "8"},
        {"start": 1.0, "end": 1.0, "text": "NO LENGTH"},
        {"start": 1.0, "text": "NO END"},
        {"start": 1.0, "end": 9.0, "text": "BEYOND"},
        "no object",
    ]
    corpus = read_corpus(write(tmp_path / "set", {**good, "segments": segments}))
    first, second = corpus.utterances
    assert (first.id, first.audio.duration, first.text, first.session, first.speaker) == ("s1", 0.7, "ONE", "a", "7")
    assert (second.id, second.audio.start, second.audio.duration) == ("a#0001", 0.7, 1.35)
    assert (second.text, second.speaker, second.language) == (None, "8", "en")
    assert [item.source for item in corpus.skipped] == [f"manifest.jsonl:1 segment {k}" for k in (2, 3, 4, 5)]


WRONG = {
    b"{broken": "invalid JSON",
    b"[1, 2]": "JSON object",
    b"\xff\xfe{}": "invalid UTF-8",
    b'{"id": "x", "text": "no audio"}': "key audio",
    b'{"audio": 5}': "key audio",
    b'{"audio": ""}': "key audio",
    b'{"audio": "a\\u0000b"}': "key audio",
    b'{"audio": "audio/missing.wav"}': "got nothing",
    b'{"audio": "audio"}': "got a folder",
    b'{"audio": "audio/a.wav", "id": "a"}': "duplicate id",
    b'{"audio": "audio/a.wav", "duration_s": 0}': "greater than 0",
    b'{"audio": "audio/a.wav", "duration_s": -1}': "greater than 0",
    b'{"audio": "audio/a.wav", "duration_s": NaN}': "in seconds",
    b'{"audio": "audio/a.wav", "duration_s": "2"}': "in seconds",
    b'{"audio": "audio/a.wav", "start": -1}': "at least 0",
    b'{"audio": "audio/a.wav", "start": 3}': "2 s long",
    b'{"audio": "audio/a.wav", "text": 5}': "text or null",
    b'{"audio": "audio/a.wav", "segments": 5}': "list of segments",
    b'{"audio": "audio/empty.wav"}': "empty file",
    b'{"audio": "audio/empty.wav", "duration_s": 3}': "empty file",
    b'{"audio": "audio/junk.wav"}': "cannot decode",
    b'{"audio": "audio/junk.wav", "duration_s": 3}': "cannot decode",
    b'{"audio": "audio/zero.wav"}': "got no samples",
    b"[" * 100_000: "nested too deeply|invalid JSON",
}


@pytest.mark.parametrize(("line", "word"), WRONG.items(), ids=lambda value: str(value)[:40])
def test_an_invalid_line_is_skipped_and_listed(
    line: bytes, word: str, tmp_path: Path, good: dict[str, Any], make_audio: Callable[..., Path]
) -> None:
    make_audio("set/audio/zero.wav", 0.0)
    (tmp_path / "set/audio/empty.wav").touch()
    (tmp_path / "set/audio/junk.wav").write_bytes(b"junk" * 100)
    corpus = read_corpus(write(tmp_path / "set", good, b"", line, {**good, "id": "b"}))
    assert [utterance.id for utterance in corpus.utterances] == ["a", "b"]
    (item,) = corpus.skipped
    assert item.source == "manifest.jsonl:3"
    assert any(part in item.reason for part in word.split("|")), item.reason
    assert "\n" not in item.reason


def read_error(source: Path) -> str:
    with pytest.raises(CorpusError) as caught:
        read_corpus(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_manifest_without_usable_lines_is_an_error(tmp_path: Path) -> None:
    assert "found nothing at" in read_error(tmp_path / "none.jsonl")
    assert "found nothing" in read_error(write(tmp_path / "empty"))
    message = read_error(write(tmp_path / "bad", *[{"audio": f"{k}.wav"} for k in range(5)]))
    assert "5 skipped" in message
    assert "manifest.jsonl:3" in message
    assert "manifest.jsonl:4" not in message


def test_a_byte_order_mark_is_accepted(tmp_path: Path, good: dict[str, Any]) -> None:
    corpus: Corpus = read_corpus(write(tmp_path / "set", b"\xef\xbb\xbf" + json.dumps(good).encode()))
    assert corpus.skipped == ()


def test_real_manifests_are_read_completely(speech: Path) -> None:
    expected = {"librispeech-mini-val": 97, "longform-librispeech": 221, "librispeech-unlabelled-spk": 241, "noise": 9}
    for name, count in expected.items():
        corpus = read_corpus(speech / name / "manifest.jsonl")
        assert (corpus.name, len(corpus.utterances), corpus.skipped) == (name, count, ())


def test_full_recordings_are_not_split(tmp_path: Path, good: dict[str, Any]) -> None:
    segments = [{"start": 0.5, "end": 0.9, "text": "TWO"}, {"start": 0.1, "end": 0.4, "text": "ONE"}]
    wrong = [*segments, {"start": 0.9, "end": 0.9, "text": "THREE"}]
    rows = [
        {"id": "own", "audio": good["audio"], "text": "AS IT STANDS", "segments": wrong},
        {"id": "joined", "audio": good["audio"], "segments": segments},
        {"id": "unknown", "audio": good["audio"], "segments": [*segments, {"start": 0.4, "end": 0.5, "text": None}]},
        {"id": "damaged", "audio": good["audio"], "segments": wrong},
    ]
    manifest = write(tmp_path / "set", *rows)
    utterances = read_corpus(manifest, full_recordings=True).utterances
    assert [(utterance.id, utterance.text) for utterance in utterances] == [
        ("own", "AS IT STANDS"),
        ("joined", "ONE TWO"),
        ("unknown", None),
        ("damaged", None),
    ]
    assert {(utterance.audio.start, utterance.audio.duration) for utterance in utterances} == {
        (0.0, utterances[0].audio.duration)
    }
    assert len(read_corpus(manifest).utterances) == 9  # by default one per segment


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_spans_of_a_file_without_ids_get_different_ids(
    tmp_path: Path, make_audio: Callable[..., Path], suffix: str
) -> None:
    make_audio("set/long.wav", 9.0)
    rows = [{"audio_filepath": "long.wav", "offset": start, "duration": 2.5} for start in (0, 2.5, 5)]
    manifest = write(tmp_path / "set", *rows)
    if suffix == "csv":
        manifest = tmp_path / "set" / "table.csv"
        manifest.write_text("\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]))
    corpus = read_corpus(manifest)
    assert not corpus.skipped
    assert [utterance.id for utterance in corpus.utterances] == ["long", "long@2.5", "long@5"]
    assert [utterance.audio.start for utterance in corpus.utterances] == [0.0, 2.5, 5.0]
