"""A table with a header: comma, semicolon, tab or | between the columns; names as in `columns`.

The audio is relative to the table's folder. An empty text means that there is no transcript.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from whisperstill.corpus.columns import audio_path, meanings, name_of, word
from whisperstill.corpus.corpus import Entry
from whisperstill.errors import CorpusError
from whisperstill.records import Skipped

SUFFIXES = (".csv", ".tsv", ".psv")
DELIMITERS = "\t,;|"
NOT_UTF8 = "\ufffd"  # what undecodable bytes are replaced by


def recognises(source: Path) -> bool:
    """A file named so, or a folder with exactly one of them, whose header has a column for the audio."""
    table = _table_in(source)
    return table is not None and "audio" in meanings(header(table))


def entries(source: Path) -> Iterator[Entry | Skipped]:
    """One entry per row."""
    table = _table_in(source)
    if table is None:
        raise CorpusError(f"expected a table (.csv or .tsv) with a header at {source}, found none")
    yield from rows(table, table.parent, quoted=True)


def rows(table: Path, folder: Path, *, quoted: bool) -> Iterator[Entry | Skipped]:
    """The rows of `table`, whose audio lies in `folder`; `quoted`: whether quotation marks enclose a field."""
    names = header(table)
    columns = meanings(names)
    if "audio" not in columns:
        raise CorpusError(f"expected a column named audio, path, file or file_name in {table.name}, found {names}")
    at = {meaning: names.index(column) for meaning, column in columns.items()}
    with table.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(file, delimiter=_delimiter(table), quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
        next(reader, None)
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Skipped(f"{table.name}:{reader.line_num}", f"is no row: {error}")
                continue
            if any(cells):
                yield _row(f"{table.name}:{reader.line_num}", folder, cells, at, len(names))


def header(table: Path) -> list[str]:
    """Names of the columns."""
    with table.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        return next(csv.reader([file.readline()], delimiter=_delimiter(table)), [])


def _row(where: str, folder: Path, cells: list[str], at: dict[str, int], width: int) -> Entry | Skipped:
    if len(cells) != width:
        return Skipped(where, f"expected {width} columns as in the header, got {len(cells)}")
    if any(NOT_UTF8 in cell for cell in cells):
        return Skipped(where, "is no UTF-8")
    values = {meaning: cells[column].strip() for meaning, column in at.items()}
    audio = values["audio"]
    if not audio or "\0" in audio:
        return Skipped(where, "expected a file's name in the column for the audio, got none")
    try:
        duration = float(values["duration"]) if values.get("duration") else None
        start = float(values["start"]) if values.get("start") else 0.0
    except ValueError as error:
        return Skipped(where, f"expected start and duration in seconds: {error}")
    return Entry(
        source=where,
        id=word(values.get("id")) or name_of(audio, start),
        path=audio_path(folder, audio),
        text=values.get("text") or None,
        language=word(values.get("language")),
        speaker=word(values.get("speaker")),
        session=word(values.get("session")),
        start=start,
        duration=duration,
    )


def _delimiter(table: Path) -> str:
    with table.open(encoding="utf-8-sig", errors="replace") as file:
        line = file.readline()
    return max(DELIMITERS, key=line.count)


def _table_in(source: Path) -> Path | None:
    if source.is_file():
        return source if source.suffix.lower() in SUFFIXES else None
    found = [path for path in source.glob("*.?sv") if path.suffix.lower() in SUFFIXES] if source.is_dir() else []
    return found[0] if len(found) == 1 else None
