"""Tables with a header; columns are separated by comma, semicolon, tab or |, and named as in `corpus.entry`.

Audio paths are relative to the table's folder. Empty text means that there is no transcript.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from whisperstill.corpus.entry import Entry, default_id, entry_of_row, match_columns, resolve_audio_path
from whisperstill.errors import CorpusError
from whisperstill.records import Skipped

SUFFIXES = (".csv", ".tsv", ".psv")
DELIMITERS = "\t,;|"
REPLACEMENT_CHARACTER = "\ufffd"  # replaces undecodable bytes


def can_read(source: Path) -> bool:
    """Whether it is a table with an audio column, or a folder with exactly one table."""
    table_path = _find_table(source)
    return table_path is not None and "audio" in match_columns(read_header(table_path))


def read_entries(source: Path) -> Iterator[Entry | Skipped]:
    """One entry per row."""
    table_path = _find_table(source)
    if table_path is None:
        raise CorpusError(f"expected a table (.csv or .tsv) with a header at {source}, found none")
    yield from read_rows(table_path, table_path.parent, quoted=True)


def read_rows(table_path: Path, folder: Path, *, quoted: bool) -> Iterator[Entry | Skipped]:
    """One entry per row; audio paths are relative to `folder`. `quoted`: quotation marks may enclose a field."""
    names = read_header(table_path)
    columns = match_columns(names)
    if "audio" not in columns:
        raise CorpusError(f"expected a column named audio, path, file or file_name in {table_path.name}, found {names}")
    indices = {field: names.index(column) for field, column in columns.items()}
    with table_path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(
            file, delimiter=_detect_delimiter(table_path), quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
        )
        next(reader, None)
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Skipped(f"{table_path.name}:{reader.line_num}", f"invalid row: {error}")
                continue
            if any(cells):
                yield _parse_row(f"{table_path.name}:{reader.line_num}", folder, cells, indices, len(names))


def read_header(table_path: Path) -> list[str]:
    """Column names of a table."""
    with table_path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        return next(csv.reader([file.readline()], delimiter=_detect_delimiter(table_path)), [])


def _parse_row(location: str, folder: Path, cells: list[str], indices: dict[str, int], width: int) -> Entry | Skipped:
    if len(cells) != width:
        return Skipped(location, f"expected {width} columns as in the header, got {len(cells)}")
    if any(REPLACEMENT_CHARACTER in cell for cell in cells):
        return Skipped(location, "invalid UTF-8")
    values = {field: cells[index].strip() for field, index in indices.items()}
    audio = values["audio"]
    if not audio or "\0" in audio:
        return Skipped(location, "expected a file name in the audio column, got none")
    try:
        duration = float(values["duration"]) if values.get("duration") else None
        start = float(values["start"]) if values.get("start") else 0.0
    except ValueError as error:
        return Skipped(location, f"expected start and duration in seconds: {error}")
    path, text = resolve_audio_path(folder, audio), values.get("text") or None
    return entry_of_row(location, path, default_id(audio, start), values, text, start, duration)


def _detect_delimiter(table_path: Path) -> str:
    with table_path.open(encoding="utf-8-sig", errors="replace") as file:
        line = file.readline()
    return max(DELIMITERS, key=line.count)


def _find_table(source: Path) -> Path | None:
    if source.is_file():
        return source if source.suffix.lower() in SUFFIXES else None
    tables = [path for path in source.glob("*.?sv") if path.suffix.lower() in SUFFIXES] if source.is_dir() else []
    return tables[0] if len(tables) == 1 else None
