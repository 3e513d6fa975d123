"""LibriSpeech: speaker/chapter/ID.flac, and beside them speaker-chapter.trans.txt with lines `ID TEXT`.

Source: Panayotov et al. 2015; OpenSLR 12 and 31. Audio that is not listed has no transcript.
"""

from collections.abc import Iterator
from pathlib import Path

from whisperstill.corpus.entry import Entry, audio_by_stem
from whisperstill.records import Skipped


def can_read(source: Path) -> bool:
    """Whether a folder contains a `*.trans.txt` at any depth."""
    return source.is_dir() and next(source.rglob("*.trans.txt"), None) is not None


def read_entries(source: Path) -> Iterator[Entry | Skipped]:
    """One entry per transcript line, then per audio file without one, chapter by chapter."""
    for transcript_path in sorted(source.rglob("*.trans.txt")):
        folder = transcript_path.parent
        audio_by_id = audio_by_stem(folder)
        speaker, _, chapter = transcript_path.name.removesuffix(".trans.txt").partition("-")
        for line_number, line in enumerate(transcript_path.read_bytes().splitlines(), start=1):
            location = f"{transcript_path.relative_to(source).as_posix()}:{line_number}"
            try:
                utterance_id, _, text = line.decode("utf-8-sig").strip().partition(" ")
            except UnicodeDecodeError as error:
                yield Skipped(location, f"invalid UTF-8: {error.reason} at byte {error.start}")
                continue
            if utterance_id:
                path = audio_by_id.pop(utterance_id, folder / f"{utterance_id}.flac")
                yield Entry(location, utterance_id, path, text.strip(), None, speaker, chapter or None)
        for utterance_id, path in audio_by_id.items():
            yield Entry(path.relative_to(source).as_posix(), utterance_id, path, None, None, speaker, chapter or None)
