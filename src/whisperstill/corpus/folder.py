"""A folder of audio, searched to any depth, or a single audio file; `talk.txt` beside `talk.mp3` is its transcript.

Nothing is known about who speaks: every file stands for itself. Hidden files are passed over.
"""

from collections.abc import Iterator
from pathlib import Path

from whisperstill.audio import AUDIO_SUFFIXES
from whisperstill.corpus.entry import Entry
from whisperstill.records import Skipped


def can_read(source: Path) -> bool:
    """An audio file, or a folder with one somewhere in it."""
    return _is_audio(source) or (source.is_dir() and any(_is_audio(path) for path in source.rglob("*")))


def read_entries(source: Path) -> Iterator[Entry | Skipped]:
    """One entry per audio file, in the order of their names."""
    root = source.parent if source.is_file() else source
    for path in [source] if source.is_file() else sorted(filter(_is_audio, source.rglob("*"))):
        relative_path = path.relative_to(root)
        if any(part.startswith(".") for part in relative_path.parts):
            continue
        transcript_path = path.with_suffix(".txt")
        try:
            text = transcript_path.read_text(encoding="utf-8-sig").strip() if transcript_path.is_file() else None
        except (OSError, UnicodeDecodeError) as error:
            yield Skipped(relative_path.with_suffix(".txt").as_posix(), f"expected a transcript in UTF-8: {error}")
            continue
        yield Entry(relative_path.as_posix(), relative_path.with_suffix("").as_posix(), path, text or None)


def _is_audio(path: Path) -> bool:
    return path.suffix.lower() in AUDIO_SUFFIXES and path.is_file()
