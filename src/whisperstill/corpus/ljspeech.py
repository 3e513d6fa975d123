"""LJSpeech: metadata.csv with lines `ID|text|text with numbers spelt out`, and wavs/ID.wav.

Source: Ito and Johnson 2017. There is one speaker, named after the folder; the part of an id before its last `-` is
the session (`LJ001` for `LJ001-0002`). The text is the second column, as written.
"""

from collections.abc import Iterator
from pathlib import Path

from whisperstill.corpus.entry import Entry, audio_by_stem
from whisperstill.errors import CorpusError
from whisperstill.records import Skipped


def can_read(source: Path) -> bool:
    """Whether a folder has `metadata.csv` and `wavs/`."""
    return (source / "metadata.csv").is_file() and (source / "wavs").is_dir()


def read_entries(source: Path) -> Iterator[Entry | Skipped]:
    """One entry per line of metadata.csv."""
    if not can_read(source):
        raise CorpusError(f"expected metadata.csv and wavs/ in {source}, found none")
    wavs = source / "wavs"
    audio_by_id = audio_by_stem(wavs)
    for line_number, line in enumerate((source / "metadata.csv").read_bytes().splitlines(), start=1):
        location = f"metadata.csv:{line_number}"
        if not line.strip():
            continue
        try:
            utterance_id, *texts = (field.strip() for field in line.decode("utf-8-sig").split("|"))
        except UnicodeDecodeError as error:
            yield Skipped(location, f"invalid UTF-8: {error.reason} at byte {error.start}")
            continue
        if not utterance_id or not texts:
            yield Skipped(location, "expected `id|text`, got no id or no separator")
            continue
        session = utterance_id.rpartition("-")[0] or None
        path = audio_by_id.get(utterance_id, wavs / f"{utterance_id}.wav")
        yield Entry(location, utterance_id, path, texts[0] or None, None, source.resolve().name, session)
