"""Asterisk prompts: a folder of .g722 files, and core-sounds-LANGUAGE.txt (or .txt.gz) with lines `name: text`.

Lines that begin with `;` are comments. Prompts with a remark in brackets (`[tones]`, `<beep>`, `(10 seconds of
silence)`) are skipped: their text is not a transcript. Debian installs the text in share/doc/asterisk-core-sounds-en/
and the audio in share/asterisk/sounds/en_US_f_Allison/; both that tree and the folder of the audio can be given.
"""

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from whisperstill.corpus.entry import Entry
from whisperstill.errors import CorpusError
from whisperstill.records import Skipped

TEXT_FILE_PATTERNS = ("core-sounds-*.txt", "core-sounds-*.txt.gz")
BRACKETED_REMARK = re.compile(r"[\[<(]")
MAX_PARENT_LEVELS = 4  # share/asterisk/sounds/en_US_f_Allison -> share


def can_read(source: Path) -> bool:
    """Whether a folder holds .g722 files, with the text file in it or where Debian installs it."""
    return source.is_dir() and next(source.rglob("*.g722"), None) is not None and _find_text_file(source) is not None


def read_entries(source: Path) -> Iterator[Entry | Skipped]:
    """One entry per line of the text file."""
    text_file = _find_text_file(source)
    audio_files = sorted(source.rglob("*.g722"), key=lambda path: (len(path.parts), path))
    if text_file is None or not audio_files:
        raise CorpusError(f"expected .g722 files and core-sounds-*.txt in {source}, found none")
    folder = audio_files[0].parent  # the topmost: names such as letters/at are relative to it
    language = text_file.name.removeprefix("core-sounds-").split(".")[0]
    raw = text_file.read_bytes()
    try:
        lines = (gzip.decompress(raw) if text_file.suffix == ".gz" else raw).splitlines()
    except (OSError, EOFError, zlib.error) as error:
        raise CorpusError(f"cannot unpack {text_file}: {error}") from error
    for line_number, line in enumerate(lines, start=1):
        location = f"{text_file.name}:{line_number}"
        name, colon, text = (part.strip() for part in line.decode("utf-8", errors="replace").partition(":"))
        if not name or name.startswith(";"):
            continue
        if not colon or not text:
            yield Skipped(location, "expected `name: text`")
        elif BRACKETED_REMARK.search(text):
            yield Skipped(location, f"{name} is not plain speech: {text}")
        else:
            yield Entry(location, name, folder / f"{name}.g722", text, language, folder.name)


def _find_text_file(source: Path) -> Path | None:
    in_source = (path for pattern in TEXT_FILE_PATTERNS for path in sorted(source.rglob(pattern)))
    installed = (
        path
        for parent in source.resolve().parents[:MAX_PARENT_LEVELS]
        for pattern in TEXT_FILE_PATTERNS
        for path in sorted(parent.glob(f"doc/asterisk-core-sounds-*/{pattern}"))
    )
    return next(in_source, None) or next(installed, None)
