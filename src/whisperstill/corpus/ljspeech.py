"""LJSpeech's layout: metadata.csv with lines `ID|text|text with numbers spelt out`, and wavs/ID.wav.

Source: Ito and Johnson 2017. One speaker, named after the folder; the part of an id before its last `-` is the session
(`LJ001-0002` is of `LJ001`). The text is the original one, the second column.
"""

from collections.abc import Iterator
from pathlib import Path

from whisperstill.audio import AUDIO_SUFFIXES
from whisperstill.corpus.corpus import Entry
from whisperstill.errors import CorpusError
from whisperstill.records import Skipped


def recognises(source: Path) -> bool:
    """A folder with `metadata.csv` and `wavs/`."""
    return (source / "metadata.csv").is_file() and (source / "wavs").is_dir()


def entries(source: Path) -> Iterator[Entry | Skipped]:
    """One entry per line of metadata.csv."""
    if not recognises(source):
        raise CorpusError(f"expected metadata.csv and wavs/ in {source}, found them not")
    wavs = source / "wavs"
    audio = {path.stem: path for path in sorted(wavs.iterdir()) if path.suffix.lower() in AUDIO_SUFFIXES}
    for number, line in enumerate((source / "metadata.csv").read_bytes().splitlines(), start=1):
        where = f"metadata.csv:{number}"
        if not line.strip():
            continue
        try:
            id_, *texts = (field.strip() for field in line.decode("utf-8-sig").split("|"))
        except UnicodeDecodeError as error:
            yield Skipped(where, f"is no UTF-8: {error.reason} at byte {error.start}")
            continue
        if not id_ or not texts:
            yield Skipped(where, "expected `id|text`, got no id or no |")
            continue
        session = id_.rpartition("-")[0] or None
        path = audio.get(id_, wavs / f"{id_}.wav")
        yield Entry(where, id_, path, texts[0] or None, None, source.resolve().name, session)
