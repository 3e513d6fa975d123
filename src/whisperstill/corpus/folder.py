"""A folder of audio, searched recursively, or a single audio file; `talk.txt` beside `talk.mp3` is its transcript.

Speakers are unknown, so files are not packed together. Hidden files are ignored.
"""

from collections.abc import Iterator
from pathlib import Path

from whisperstill.audio.audio_files import AUDIO_SUFFIXES
from whisperstill.corpus.entry import Entry
from whisperstill.records import Skipped


def can_read(source: Path) -> bool:
    """Whether it is an audio file, or a folder that contains one."""
    return _is_audio(source) or (source.is_dir() and any(_is_audio(path) for path in source.rglob("*")))


def read_entries(source: Path) -> Iterator[Entry | Skipped]:
    """One entry per audio file, sorted by name."""
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
