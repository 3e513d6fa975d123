"""LibriSpeech's layout: speaker/chapter/ID.flac, and beside them speaker-chapter.trans.txt with lines `ID TEXT`.

Source: Panayotov et al. 2015; the layout of OpenSLR 12 and 31. Audio without a line of its own has no transcript.
"""

from collections.abc import Iterator
from pathlib import Path

from whisperstill.audio import AUDIO_SUFFIXES
from whisperstill.corpus.corpus import Entry
from whisperstill.records import Skipped


def recognises(source: Path) -> bool:
    """A folder with a `*.trans.txt` somewhere in it."""
    return source.is_dir() and next(source.rglob("*.trans.txt"), None) is not None


def entries(source: Path) -> Iterator[Entry | Skipped]:
    """One entry per line of the transcripts, chapter by chapter."""
    for transcript in sorted(source.rglob("*.trans.txt")):
        folder = transcript.parent
        audio = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in AUDIO_SUFFIXES}
        speaker, _, chapter = transcript.name.removesuffix(".trans.txt").partition("-")
        for number, line in enumerate(transcript.read_bytes().splitlines(), start=1):
            where = f"{transcript.relative_to(source).as_posix()}:{number}"
            try:
                id_, _, text = line.decode("utf-8-sig").strip().partition(" ")
            except UnicodeDecodeError as error:
                yield Skipped(where, f"is no UTF-8: {error.reason} at byte {error.start}")
                continue
            if id_:
                path = audio.pop(id_, folder / f"{id_}.flac")
                yield Entry(where, id_, path, text.strip(), None, speaker, chapter or None)
        for id_, path in audio.items():
            yield Entry(path.relative_to(source).as_posix(), id_, path, None, None, speaker, chapter or None)
