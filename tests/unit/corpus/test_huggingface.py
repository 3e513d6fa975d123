"""Local datasets with pyarrow alone and with the library, and datasets on the hub."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from whisperstill.corpus import read_corpus
from whisperstill.errors import CorpusError, MissingExtraError

MakeAudio = Callable[..., Path]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WHISPERSTILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "audio"


@pytest.fixture
def table(make_audio: MakeAudio) -> Any:
    content = [make_audio(f"{name}.flac", seconds).read_bytes() for name, seconds in (("a", 0.3), ("b", 0.6))]
    audio = [
        {"bytes": content[0], "path": "a.flac"},
        {"bytes": content[1], "path": None},
        {"bytes": None, "path": None},
        {"bytes": b"junk", "path": "junk.wav"},
    ]
    return pa.table(
        {"audio": audio, "sentence": ["one", None, "three", "four"], "speaker_id": [7, 8, 8, 8], "locale": ["en"] * 4}
    )


def check(source: Path, split: str, cache: Path) -> None:
    corpus = read_corpus(source)
    first, second = corpus.utterances
    assert (first.id, first.text, first.speaker, first.language) == (f"{split}-00000000", "one", "7", "en")
    assert (second.text, second.audio.duration) == (None, 0.6)
    assert [item.source for item in corpus.skipped] == [f"{split}:2", f"{split}:3"]
    assert {Path(item.audio.path).parent for item in corpus.utterances} == {cache}
    assert not list(cache.glob("*.part"))
    before = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert read_corpus(source) == corpus
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == before  # written once


def test_parquet(table: Any, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "ds/data").mkdir(parents=True)
    parquet.write_table(table, tmp_path / "ds/data/train-00000-of-00001.parquet")
    check(tmp_path / "ds", "train", cache)
    parquet.write_table(table, tmp_path / "ds/data/test-00000-of-00001.parquet")
    with pytest.raises(CorpusError, match="one split, found test, train"):
        read_corpus(tmp_path / "ds")
    check(tmp_path / "ds/data/train", "train", cache)
    assert read_corpus(tmp_path / "ds/data/test").name == "test"


def test_saved_to_disk_without_the_library(table: Any, tmp_path: Path, cache: Path) -> None:
    for split in ("train", "test"):
        folder = tmp_path / "saved" / split
        folder.mkdir(parents=True)
        arrow = str(folder / "data-00000-of-00001.arrow")
        with pa.OSFile(arrow, "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
        (folder / "state.json").write_text("{}")
    check(tmp_path / "saved/train", "train", cache)
    (tmp_path / "saved/dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    with pytest.raises(CorpusError, match="one split, found test, train"):
        read_corpus(tmp_path / "saved")


def test_saved_to_disk_by_the_library(table: Any, tmp_path: Path, cache: Path) -> None:
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset(table.slice(0, 2)).cast_column("audio", datasets.Audio(decode=False))
    datasets.DatasetDict({"train": data}).save_to_disk(str(tmp_path / "saved"))
    corpus = read_corpus(tmp_path / "saved")
    assert [(item.id, item.text) for item in corpus.utterances] == [("train-00000000", "one"), ("train-00000001", None)]
    assert read_corpus(tmp_path / "saved/train").utterances[0].audio == corpus.utterances[0].audio


def test_a_dataset_on_the_hub(table: Any, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    calls = []

    def load_dataset(name: str, config: str, split: str) -> Any:
        calls.append((name, config, split))
        return datasets.Dataset(table).cast_column("audio", datasets.Audio())

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    corpus = read_corpus("hf:org/name/default/train[:4]")
    assert calls == [("org/name", "default", "train[:4]")]
    assert corpus.name == "org-name-default-train[:4]"
    assert [item.text for item in corpus.utterances] == ["one", None]


def test_the_hub_needs_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"whisperstill\[datasets\]"):
        read_corpus("hf:name/config/train")
    with pytest.raises(CorpusError, match="hf:name/config/split"):
        read_corpus("hf:name/train")


def test_audio_paths_instead_of_bytes(tmp_path: Path, make_audio: MakeAudio) -> None:
    make_audio("ds/clips/a.wav", 0.4)
    rows = {"file": ["clips/a.wav", "clips/none.wav", None], "text": ["one", "two", "three"], "id": ["x", "y", "z"]}
    parquet.write_table(pa.table(rows), tmp_path / "ds/all.parquet")
    corpus = read_corpus(tmp_path / "ds/all.parquet")
    assert [item.id for item in corpus.utterances] == ["x"]
    assert len(corpus.skipped) == 2


@pytest.mark.parametrize("name", ["a.parquet", "saved/x.arrow"])
def test_a_damaged_file_is_an_error(name: str, tmp_path: Path) -> None:
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved/state.json").write_text("{}")
    (tmp_path / name).write_bytes(b"PAR1 this is nothing")
    with pytest.raises(CorpusError, match="cannot read"):
        read_corpus(tmp_path / name if name.endswith("parquet") else tmp_path / "saved")


def test_spans_of_a_file(tmp_path: Path, table: Any, make_audio: MakeAudio, cache: Path) -> None:
    """A start refers to a named file; embedded audio is already cut."""
    make_audio("ds/long.wav", 9.0)
    rows = {"audio": ["long.wav"] * 2, "start": [0.0, 5.0], "duration": [2.0, 2.0]}
    parquet.write_table(pa.table(rows), tmp_path / "ds/all.parquet")
    assert [utterance.audio.start for utterance in read_corpus(tmp_path / "ds/all.parquet").utterances] == [0.0, 5.0]
    starts = pa.array([5.0] * len(table))
    parquet.write_table(table.append_column("start", starts), tmp_path / "ds/bytes.parquet")
    assert {utterance.audio.start for utterance in read_corpus(tmp_path / "ds/bytes.parquet").utterances} == {0.0}
