"""Data sets of Hugging Face: from the hub, saved by `save_to_disk`, or as Parquet files with an audio column.

What lies on the disk is read with pyarrow alone; `hf:name/config/split` needs the extra `datasets`. The audio is taken
as the bytes it came in (`Audio(decode=False)`: the library's own decoder is heavy and tied to a version of torch) and
written once to a cache, named by its hash, since every utterance is a stretch of a file.

Cache: $WHISPERSTILL_CACHE, else $XDG_CACHE_HOME/whisperstill, else ~/.cache/whisperstill; folder `audio`.
"""

import os
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from whisperstill.corpus.columns import meanings, word
from whisperstill.corpus.corpus import Entry
from whisperstill.errors import CorpusError, MissingExtraError
from whisperstill.files import write_whole
from whisperstill.records import Skipped

PREFIX = "hf:"
SAVED = ("dataset_dict.json", "state.json", "dataset_info.json")
BATCH_ROWS = 64  # audio bytes are held for that many rows at once


def is_hub(source: str | Path) -> bool:
    """Whether it names a data set of the hub: `hf:name/config/split`."""
    return str(source).startswith(PREFIX)


def hub_name(source: str) -> str:
    """Name of the corpus: `hf:org/name/config/split` is `org-name-config-split`."""
    return source.removeprefix(PREFIX).replace("/", "-")


def hub_entries(source: str) -> Iterator[Entry | Skipped]:
    """One entry per row of a data set of the hub. Raises `MissingExtraError`, `CorpusError`."""
    parts = source.removeprefix(PREFIX).split("/")
    if len(parts) < 3 or not all(parts):
        raise CorpusError(f"expected hf:name/config/split (the config is often called default), got {source}")
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError("a corpus of the hub", "datasets") from error
    name, config, split = "/".join(parts[:-2]), parts[-2], parts[-1]
    try:
        data = datasets.load_dataset(name, config, split=split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise CorpusError(f"cannot load {source}: {' '.join(str(error).split())}") from error
    for column, feature in data.features.items():
        if isinstance(feature, datasets.Audio):
            data = data.cast_column(column, datasets.Audio(decode=False))
    yield from _entries(split, data, Path())


def recognises(source: Path) -> bool:
    """A folder written by `save_to_disk`, a Parquet file, a folder of them, or `folder/train` for train-*.parquet."""
    return any((source / name).is_file() for name in SAVED) or bool(_parquet_files(source))


def entries(source: Path) -> Iterator[Entry | Skipped]:
    """One entry per row of a data set on the disk. Raises `CorpusError` when it holds several splits."""
    if (source / "dataset_dict.json").is_file():
        splits = {path.parent.name for path in source.glob("*/state.json")}
        _one_split(source, splits)
        source = source.joinpath(*splits)
    arrow, parquet = sorted(source.glob("*.arrow")), _parquet_files(source)
    if not arrow and not parquet:
        raise CorpusError(f"expected .arrow or .parquet files in {source}, found none")
    if not arrow:
        _one_split(source, {path.stem.split("-")[0] for path in parquet})
    split = source.stem if arrow or source.is_file() else parquet[0].stem.split("-")[0]
    yield from _entries(split, _arrow_rows(arrow) if arrow else _parquet_rows(parquet), (arrow or parquet)[0].parent)


def _one_split(source: Path, splits: set[str]) -> None:
    if len(splits) > 1:
        first = sorted(splits)[0]
        raise CorpusError(f"expected one split, found {', '.join(sorted(splits))}: give {source / first} or another")


def _parquet_files(source: Path) -> list[Path]:
    if source.is_file():
        return [source] if source.suffix == ".parquet" else []
    if source.is_dir():
        return sorted([*source.glob("*.parquet"), *source.glob("*/*.parquet")])
    return sorted(source.parent.glob(f"{source.name}-*.parquet")) if source.parent.is_dir() else []


def _parquet_rows(files: list[Path]) -> Iterator[dict[str, Any]]:
    import pyarrow
    from pyarrow import parquet

    for path in files:
        try:
            with parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(BATCH_ROWS):
                    yield from batch.to_pylist()
        except (OSError, pyarrow.ArrowException) as error:
            raise CorpusError(f"cannot read {path}: {' '.join(str(error).split())}") from error


def _arrow_rows(files: list[Path]) -> Iterator[dict[str, Any]]:
    import pyarrow

    for path in files:
        try:
            with pyarrow.memory_map(str(path)) as file, pyarrow.ipc.open_stream(file) as reader:
                for batch in reader:
                    for start in range(0, batch.num_rows, BATCH_ROWS):
                        yield from batch.slice(start, BATCH_ROWS).to_pylist()
        except (OSError, pyarrow.ArrowException) as error:
            raise CorpusError(f"cannot read {path}: {' '.join(str(error).split())}") from error


def _entries(split: str, rows: Iterable[dict[str, Any]], folder: Path) -> Iterator[Entry | Skipped]:
    cache = _cache()
    for number, row in enumerate(rows):
        where = f"{split}:{number}"
        columns = meanings(row)
        values = {meaning: row[column] for meaning, column in columns.items()}
        text, start, duration = (values.get(name) for name in ("text", "start", "duration"))
        try:
            path = _audio_file(values.get("audio"), cache, folder)
            if not isinstance(text, str | None) or not all(
                isinstance(x, int | float | None) for x in (start, duration)
            ):
                raise CorpusError(
                    f"expected text, a start and a duration in seconds, got {text!r}, {start!r} and {duration!r}"
                )
        except CorpusError as error:
            yield Skipped(where, str(error))
            continue
        yield Entry(
            source=where,
            id=word(values.get("id")) or f"{split}-{number:08d}",
            path=path,
            text=text,
            language=word(values.get("language")),
            speaker=word(values.get("speaker")),
            session=word(values.get("session")),
            start=0.0 if start is None or path.parent == cache else float(start),  # bytes are the stretch itself
            duration=None if duration is None else float(duration),
        )


def _audio_file(audio: Any, cache: Path, folder: Path) -> Path:
    """File that holds the audio of a row: the one it names, or one written to the cache."""
    content, name = (audio.get("bytes"), audio.get("path")) if isinstance(audio, dict) else (None, audio)
    if isinstance(name, bytes):
        content, name = name, None
    if content:
        return _kept(content, cache, Path(name or "").suffix)
    if isinstance(name, str) and name:
        return folder / name
    raise CorpusError("expected audio as bytes or a path (not decoded), got none")


def _kept(content: bytes, cache: Path, suffix: str) -> Path:
    path = cache / f"{sha256(content).hexdigest()[:32]}{suffix.lower()}"
    if not path.is_file() or path.stat().st_size != len(content):
        write_whole(path, content)
    return path


def _cache() -> Path:
    if own := os.environ.get("WHISPERSTILL_CACHE"):
        return Path(own).expanduser() / "audio"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "whisperstill" / "audio"
