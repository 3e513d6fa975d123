"""Common Voice: a folder of one language with clips/ and tables such as validated.tsv.

Source: Ardila et al. 2020. Tables are tab-separated and unquoted: a quotation mark is part of the sentence. For a
folder, validated.tsv is read; name another table (train.tsv, test.tsv) itself. Newer releases give clip durations in
clip_durations.tsv, in milliseconds, which are used if present.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from whisperstill.corpus import table
from whisperstill.corpus.entry import Entry
from whisperstill.errors import CorpusError
from whisperstill.records import Skipped

PREFERRED_TABLES = ("validated.tsv", "train.tsv", "other.tsv")
DURATIONS_FILE = "clip_durations.tsv"


def can_read(source: Path) -> bool:
    """Whether it is a table beside clips/ with columns `path` and `sentence`, or a folder with one."""
    table_path = _find_table(source)
    return (
        table_path is not None
        and (table_path.parent / "clips").is_dir()
        and {"path", "sentence"} <= set(table.read_header(table_path))
    )


def read_entries(source: Path) -> Iterator[Entry | Skipped]:
    """One entry per row."""
    table_path = _find_table(source)
    if table_path is None:
        raise CorpusError(f"expected a Common Voice table at {source} (one of {', '.join(PREFERRED_TABLES)}), got none")
    durations = _read_durations(table_path.parent / DURATIONS_FILE)
    for entry in table.read_rows(table_path, table_path.parent / "clips", quoted=False):
        if isinstance(entry, Entry) and entry.duration is None:
            yield replace(entry, duration=durations.get(entry.path.name))
        else:
            yield entry


def _find_table(source: Path) -> Path | None:
    if source.is_file():
        return source if source.suffix.lower() == ".tsv" else None
    return next((source / name for name in PREFERRED_TABLES if (source / name).is_file()), None)


def _read_durations(path: Path) -> dict[str, float]:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[1:] if path.is_file() else []
    rows = (line.partition("\t") for line in lines)
    return {name: int(ms) / 1000 for name, _, ms in rows if ms.strip().isdigit() and int(ms) > 0}
