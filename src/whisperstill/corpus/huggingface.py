"""Hugging Face datasets: from the hub, saved by `save_to_disk`, or Parquet files with an audio column.

Local datasets are read with pyarrow alone; `hf:name/config/split` needs the extra `datasets`. Audio is taken as encoded
bytes (`Audio(decode=False)`: the library's own decoder is heavy and tied to a torch version) and written once to the
folder `audio` of the cache (`atomic_io.cache_directory`), named by its hash.
"""

from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from whisperstill.atomic_io import atomic_write, cache_directory
from whisperstill.corpus.entry import Entry, entry_of_row, match_columns
from whisperstill.errors import CorpusError, MissingExtraError
from whisperstill.records import Skipped

HUB_PREFIX = "hf:"
SAVED_DATASET_FILES = ("dataset_dict.json", "state.json", "dataset_info.json")
BATCH_ROWS = 64  # rows whose audio bytes are in memory together


def is_hub_dataset(source: str | Path) -> bool:
    """Whether a source is `hf:name/config/split`."""
    return str(source).startswith(HUB_PREFIX)


def read_hub_entries(source: str) -> Iterator[Entry | Skipped]:
    """One entry per row of a dataset on the hub. Raises `MissingExtraError`, `CorpusError`."""
    parts = source.removeprefix(HUB_PREFIX).split("/")
    if len(parts) < 3 or not all(parts):
        raise CorpusError(f"expected hf:name/config/split (the config is often called default), got {source}")
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError("a corpus on the hub", "datasets") from error
    name, config, split = "/".join(parts[:-2]), parts[-2], parts[-1]
    try:
        dataset = datasets.load_dataset(name, config, split=split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise CorpusError(f"cannot load {source}: {' '.join(str(error).split())}") from error
    for column, feature in dataset.features.items():
        if isinstance(feature, datasets.Audio):
            dataset = dataset.cast_column(column, datasets.Audio(decode=False))
    yield from _entries_from_rows(split, dataset, Path())


def can_read(source: Path) -> bool:
    """Whether it is a folder written by `save_to_disk`, a Parquet file or a folder of them, or `folder/train`
    (for train-*.parquet)."""
    return any((source / name).is_file() for name in SAVED_DATASET_FILES) or bool(_find_parquet_files(source))


def read_entries(source: Path) -> Iterator[Entry | Skipped]:
    """One entry per row of a local dataset. Raises `CorpusError` when it has several splits."""
    if (source / "dataset_dict.json").is_file():
        splits = {path.parent.name for path in source.glob("*/state.json")}
        _require_single_split(source, splits)
        source = source.joinpath(*splits)
    arrow_files, parquet_files = sorted(source.glob("*.arrow")), _find_parquet_files(source)
    if not arrow_files and not parquet_files:
        raise CorpusError(f"expected .arrow or .parquet files in {source}, found none")
    if not arrow_files:
        _require_single_split(source, {path.stem.split("-")[0] for path in parquet_files})
    split = source.stem if arrow_files or source.is_file() else parquet_files[0].stem.split("-")[0]
    files = arrow_files or parquet_files
    yield from _entries_from_rows(split, _read_rows(files), files[0].parent)


def _require_single_split(source: Path, splits: set[str]) -> None:
    if len(splits) > 1:
        first = sorted(splits)[0]
        raise CorpusError(f"expected one split, found {', '.join(sorted(splits))}: give {source / first} or another")


def _find_parquet_files(source: Path) -> list[Path]:
    if source.is_file():
        return [source] if source.suffix == ".parquet" else []
    if source.is_dir():
        return sorted([*source.glob("*.parquet"), *source.glob("*/*.parquet")])
    return sorted(source.parent.glob(f"{source.name}-*.parquet")) if source.parent.is_dir() else []


def _read_rows(files: list[Path]) -> Iterator[dict[str, Any]]:
    import pyarrow
    from pyarrow import parquet

    for path in files:
        try:
            if path.suffix == ".parquet":
                with parquet.ParquetFile(path) as file:
                    for batch in file.iter_batches(BATCH_ROWS):
                        yield from batch.to_pylist()
            else:
                with pyarrow.memory_map(str(path)) as file, pyarrow.ipc.open_stream(file) as reader:
                    for batch in reader:
                        for start in range(0, batch.num_rows, BATCH_ROWS):
                            yield from batch.slice(start, BATCH_ROWS).to_pylist()
        except (OSError, pyarrow.ArrowException) as error:
            raise CorpusError(f"cannot read {path}: {' '.join(str(error).split())}") from error


def _entries_from_rows(split: str, rows: Iterable[dict[str, Any]], folder: Path) -> Iterator[Entry | Skipped]:
    cache_dir = cache_directory() / "audio"
    for row_index, row in enumerate(rows):
        location = f"{split}:{row_index}"
        values = {field: row[column] for field, column in match_columns(row).items()}
        text, start, duration = (values.get(name) for name in ("text", "start", "duration"))
        try:
            path = _resolve_audio_file(values.pop("audio", None), cache_dir, folder)
            numbers_valid = all(isinstance(value, int | float | None) for value in (start, duration))
            if not isinstance(text, str | None) or not numbers_valid:
                raise CorpusError(f"expected text, start and duration, got {text!r}, {start!r} and {duration!r}")
        except CorpusError as error:
            yield Skipped(location, str(error))
            continue
        # embedded audio is already cut
        start_s = 0.0 if start is None or path.parent == cache_dir else float(start)
        duration_s = None if duration is None else float(duration)
        yield entry_of_row(location, path, f"{split}-{row_index:08d}", values, text, start_s, duration_s)


def _resolve_audio_file(audio: Any, cache_dir: Path, folder: Path) -> Path:
    audio_bytes, name = (audio.get("bytes"), audio.get("path")) if isinstance(audio, dict) else (None, audio)
    if isinstance(name, bytes):
        audio_bytes, name = name, None
    if audio_bytes:
        path = cache_dir / f"{sha256(audio_bytes).hexdigest()[:32]}{Path(name or '').suffix.lower()}"
        if not path.is_file() or path.stat().st_size != len(audio_bytes):
            atomic_write(path, audio_bytes)
        return path
    if isinstance(name, str) and name:
        return folder / name
    raise CorpusError("expected audio as bytes or a path, got none")
