"""Corpora and audio in an object store, downloaded when they are read."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from whisperstill import remote_files as remote
from whisperstill.audio.audio_files import load_audio
from whisperstill.audio.input_files import collect_audio
from whisperstill.corpus import read_corpus
from whisperstill.errors import AudioError, CorpusError, NotFoundError
from whisperstill.remote_files import cache_path, download, is_pending, is_remote, url_of


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An in-memory store with three recordings, a manifest, and a folder without manifest."""
    import fsspec

    monkeypatch.setenv("WHISPERSTILL_CACHE", str(tmp_path / "cache"))
    files = fsspec.filesystem("memory")
    tone = np.sin(np.arange(16_000) / 20).astype(np.float32) / 2
    lines = []
    for index in range(3):
        soundfile.write(tmp_path / "a.wav", tone * (index + 1) / 3, 16_000)
        files.pipe(f"/bucket/corpus/audio/a {index}.wav", (tmp_path / "a.wav").read_bytes())
        files.pipe(f"/bucket/plain/{index}.wav", (tmp_path / "a.wav").read_bytes())
        audio = f"audio/a {index}.wav" if index else "memory://bucket/corpus/audio/a 0.wav"
        lines.append(json.dumps({"id": f"a{index}", "audio": audio, "text": "HELLO", "duration": 1.0}))
    files.pipe("/bucket/corpus/manifest.jsonl", "\n".join(lines).encode())
    yield "memory://bucket"
    files.rm("/bucket", recursive=True)


def test_urls_and_cache_paths() -> None:
    assert is_remote("s3://bucket/key.flac") and not is_remote("audio/s3.flac") and not is_remote(Path("a.flac"))
    for address in ("s3://bucket/a b/k%65y.flac", "https://example.org/x/y.opus", "gs://b/../../etc/passwd"):
        place = cache_path(address)
        assert place.is_relative_to(cache_path("s3://x").parent.parent) and ".." not in place.parts
        assert cache_path(str(url_of(place))) == place
    assert url_of(cache_path("s3://bucket/a b/k%65y.flac")) == "s3://bucket/a b/k%65y.flac"
    assert url_of(Path("/somewhere/else.wav")) is None


@pytest.mark.parametrize("source", ["/corpus/manifest.jsonl", "/corpus"])
def test_a_manifest_is_downloaded_and_its_audio_is_not(bucket: str, source: str) -> None:
    corpus = read_corpus(bucket + source)
    assert corpus.name == "corpus" and [utterance.id for utterance in corpus.utterances] == ["a0", "a1", "a2"]
    paths = [Path(utterance.audio.path) for utterance in corpus.utterances]
    assert [path for path in paths if not is_pending(path)] == []
    sound = load_audio(paths[2])
    assert len(sound) == 16_000 and abs(sound).max() == pytest.approx(0.5, abs=1e-3)
    assert not is_pending(paths[2]) and is_pending(paths[1])


@pytest.mark.parametrize("name", ["50%25 off.wav", "a#1?.wav", "größer.wav"])
def test_names_that_urls_escape(bucket: str, name: str) -> None:
    """Manifest, folder and single file give the same cache path."""
    import fsspec

    files = fsspec.filesystem("memory")
    files.pipe(f"/bucket/odd/{name}", files.cat("/bucket/plain/0.wav"))
    [alone] = read_corpus(bucket + "/odd").utterances
    files.pipe("/bucket/odd/manifest.jsonl", json.dumps({"audio": name, "duration": 1.0}).encode())
    [named] = read_corpus(bucket + "/odd").utterances
    assert alone.audio.path == named.audio.path == str(cache_path(f"{bucket}/odd/{name}"))
    Path(named.audio.path).unlink()
    assert len(load_audio(named.audio.path)) == 16_000


def test_a_folder_without_a_manifest_is_downloaded(bucket: str) -> None:
    assert [utterance.audio.duration for utterance in read_corpus(bucket + "/plain").utterances] == [1.0] * 3


def test_a_changed_manifest_is_downloaded_again(bucket: str) -> None:
    import fsspec

    read_corpus(bucket + "/corpus/manifest.jsonl")
    line = json.dumps({"audio": "audio/a 1.wav", "duration": 1.0})
    fsspec.filesystem("memory").pipe("/bucket/corpus/manifest.jsonl", line.encode())
    assert len(read_corpus(bucket + "/corpus/manifest.jsonl").utterances) == 1


def test_remote_inputs_of_transcribe(bucket: str) -> None:
    paths, problems = collect_audio((bucket + "/plain", bucket + "/corpus/audio/a 1.wav", bucket + "/nothing.wav"))
    assert [path.name for path in paths] == ["0.wav", "1.wav", "2.wav", "a 1.wav"]
    assert [path for path in paths if not path.exists()] == []
    assert len(problems) == 1 and "cannot find memory://bucket/nothing.wav" in problems[0].reason


def test_missing_files_are_errors(bucket: str) -> None:
    with pytest.raises(CorpusError, match="cannot find memory://bucket/none"):
        read_corpus(bucket + "/none")
    with pytest.raises(AudioError, match="cannot download memory://bucket/none"):
        load_audio(cache_path(bucket + "/none.wav"))
    with pytest.raises(NotFoundError, match="cannot reach nonsense://x"):
        download(cache_path("nonsense://x/y"))


def test_least_recently_used_files_are_evicted(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [cache_path(f"{bucket}/plain/{index}.wav") for index in range(3)]
    monkeypatch.setattr(remote, "EVICTION_INTERVAL_GIB", 0.0)
    monkeypatch.setenv("WHISPERSTILL_REMOTE_GIB", str(2.5 * 32_044 / 2**30))
    for age, place in zip((300, 500), places, strict=False):
        download(place)
        os.utime(place, (place.stat().st_mtime - age,) * 2)
    download(places[2])
    assert [place.exists() for place in places] == [True, False, True]


def test_a_failed_download_does_not_stop_the_others(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    original = MemoryFileSystem.get_file

    def get_file(self: MemoryFileSystem, name: str, *rest: object, **more: object) -> None:
        if name.endswith("plain/1.wav"):
            raise PermissionError("403")
        original(self, name, *rest, **more)

    monkeypatch.setattr(MemoryFileSystem, "get_file", get_file)
    paths, problems = collect_audio((bucket + "/plain",))
    assert [path.name for path in paths] == ["0.wav", "2.wav"]
    assert [(problem.source, "403" in problem.reason) for problem in problems] == [(bucket + "/plain/1.wav", True)]
