"""Reads a corpus: detects its layout, downloads remote manifests, names it, and checks its entries.

A layout only returns what its files state (`Entry`). Here every entry is checked for an audio file that exists and is
audio, for its duration, and for a unique id. Invalid entries are skipped and listed.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from whisperstill.audio.audio_files import has_audio_signature, probe_duration
from whisperstill.corpus import asterisk, commonvoice, folder, huggingface, jsonl, librispeech, ljspeech, table
from whisperstill.corpus.entry import Entry
from whisperstill.errors import AudioError, CorpusError, NotFoundError, SettingsError
from whisperstill.plugins import PluginGroup
from whisperstill.records import AudioSpan, Skipped, Utterance
from whisperstill.remote_files import cache_path, download, is_pending, is_remote, is_remote_directory, list_files

MANIFEST_SUFFIXES = (*jsonl.SUFFIXES, *table.SUFFIXES)
MAX_REASONS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Corpus:
    """Utterances in corpus order, and the skipped entries."""

    name: str
    utterances: tuple[Utterance, ...]
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """A corpus layout: detection and reading."""

    can_read: Callable[[Path], bool]
    read_entries: Callable[[Path], Iterator[Entry | Skipped]]


LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        "jsonl": Layout(jsonl.can_read, jsonl.read_entries),
        "huggingface": Layout(huggingface.can_read, huggingface.read_entries),
        "ljspeech": Layout(ljspeech.can_read, ljspeech.read_entries),
        "commonvoice": Layout(commonvoice.can_read, commonvoice.read_entries),
        "csv": Layout(table.can_read, table.read_entries),
        "librispeech": Layout(librispeech.can_read, librispeech.read_entries),
        "asterisk": Layout(asterisk.can_read, asterisk.read_entries),
        "folder": Layout(folder.can_read, folder.read_entries),
    }
)
"""Layouts in the order of detection: by file name first, by a search of the folder last."""


def all_layouts() -> dict[str, Layout]:
    """`LAYOUTS` and those registered by other packages (`plugins`), which are detected first."""
    return {**PluginGroup[Layout]("corpus_readers").load(), **LAYOUTS}


def read_corpus(
    source: str | Path, *, layout: str = "auto", language: str | None = None, full_recordings: bool = False
) -> Corpus:
    """The utterances of a manifest, a folder or `hf:name/config/split`; invalid entries are skipped and listed.

    A manifest or folder may be remote (`s3://bucket/corpus`); audio whose duration its manifest states is downloaded
    when it is decoded. `layout` is a key of `LAYOUTS`, or `auto` to detect it. `language` (`en`) applies where the
    corpus states none. With `full_recordings`, recordings of a JSONL manifest are not split into their `segments`.

    Raises `CorpusError` when the source does not exist, has no supported layout, or has no usable utterance;
    `SettingsError` for an unknown layout; `MissingExtraError` for the hub without the extra `datasets`.
    """
    layouts = all_layouts()
    if layout != "auto" and layout not in layouts:
        raise SettingsError(f"layout must be auto or one of {', '.join(layouts)}, got {layout}")
    if huggingface.is_hub_dataset(source) and layout in ("auto", "huggingface"):
        return build_corpus(corpus_name(source), huggingface.read_hub_entries(str(source)), language)
    path = _download_corpus(str(source)) if is_remote(source) else Path(source)
    try:
        if not path.exists() and not huggingface.can_read(path):
            raise CorpusError(f"expected a manifest, a folder or hf:name/config/split, found nothing at {source}")
        if layout == "auto":
            layout = next((name for name, candidate in layouts.items() if candidate.can_read(path)), "")
        if not layout:
            raise CorpusError(f"expected one of the layouts {', '.join(layouts)} at {source}, found none")
        entries = jsonl.read_entries(path, full_recordings) if layout == "jsonl" else layouts[layout].read_entries(path)
        return build_corpus(corpus_name(path), entries, language)
    except OSError as error:
        raise CorpusError(f"cannot read {source}: {error.strerror or error}") from error


def _download_corpus(address: str) -> Path:
    """Cache path of a remote corpus, with its manifests downloaded, or all files of a folder without manifest."""
    try:
        if not is_remote_directory(address):
            cache_path(address).unlink(missing_ok=True)  # the remote file may have changed
            return download(cache_path(address))
        files = list_files(address)
        manifests = [path for path in files if path.parent == cache_path(address) and path.suffix in MANIFEST_SUFFIXES]
        for path in manifests:
            path.unlink(missing_ok=True)
        for path in manifests or files:
            download(path)
    except NotFoundError as error:
        raise CorpusError(str(error)) from error
    return cache_path(address)


def corpus_name(source: str | Path) -> str:
    """Name of a corpus, which need not be downloaded yet: its folder.

    A manifest that is not called manifest.* or metadata.* appends its own name; `hf:org/name/config/split` is
    `org-name-config-split`.
    """
    if huggingface.is_hub_dataset(source):
        return str(source).removeprefix(huggingface.HUB_PREFIX).replace("/", "-")
    path = Path(source).resolve()
    if path.is_dir() or not (path.is_file() or path.suffix in MANIFEST_SUFFIXES):
        return path.name
    if path.stem in ("manifest", "metadata"):
        return path.parent.name
    return f"{path.parent.name}-{path.stem}"


def build_corpus(name: str, entries: Iterable[Entry | Skipped], language: str | None = None) -> Corpus:
    """The corpus of all valid entries; `language` applies to entries without one.

    Raises `CorpusError` when no utterance is left.
    """
    utterances: list[Utterance] = []
    skipped: list[Skipped] = []
    ids: set[str] = set()
    # Every audio file is checked once, however many segments it has. A pending one would be downloaded: its manifest is
    # trusted.
    probe, is_trusted = cache(_probe_duration), cache(lambda path: is_pending(path) or has_audio_signature(path))
    for entry in entries:
        if isinstance(entry, Skipped):
            skipped.append(entry)
            continue
        try:
            if entry.id in ids:
                raise CorpusError(f"duplicate id {entry.id}; the first is used")
            utterance = Utterance(
                id=entry.id,
                corpus=name,
                audio=AudioSpan(str(entry.path), entry.start, _measure_duration(entry, probe, is_trusted)),
                text=entry.text,
                language=primary_language_subtag(entry.language or language),
                speaker=entry.speaker,
                session=entry.session,
            )
        except (AudioError, CorpusError) as error:
            skipped.append(Skipped(entry.source, str(error)))
            continue
        ids.add(entry.id)
        utterances.append(utterance)
    if not utterances:
        examples = "; ".join(f"{item.source}: {item.reason}" for item in skipped[:MAX_REASONS_SHOWN])
        summary = f"{len(skipped)} skipped ({examples})" if skipped else "nothing"
        raise CorpusError(f"expected at least one usable utterance in {name}, found {summary}")
    return Corpus(name, tuple(utterances), tuple(skipped))


def primary_language_subtag(language: str | None) -> str | None:
    """`en` for `EN`, `en-US` and `en_GB`; None for an empty string."""
    return (language or "").strip().lower().replace("_", "-").split("-")[0] or None


def _measure_duration(
    entry: Entry, probe: Callable[[Path], float | AudioError], is_trusted: Callable[[Path], bool]
) -> float:
    if not (math.isfinite(entry.start) and entry.start >= 0):
        raise CorpusError(f"expected a start of at least 0 s, got {entry.start:g}")
    if entry.duration is not None and not (math.isfinite(entry.duration) and entry.duration > 0):
        raise CorpusError(f"expected a duration greater than 0 s, got {entry.duration:g}")
    if entry.duration is not None and is_trusted(entry.path):
        return entry.duration
    seconds = probe(entry.path)
    if isinstance(seconds, AudioError):
        raise AudioError(str(seconds))
    if entry.duration is not None:
        return entry.duration
    if entry.start >= seconds:
        raise CorpusError(f"starts at {entry.start:g} s, but its file is {seconds:g} s long")
    return seconds - entry.start


def _probe_duration(path: Path) -> float | AudioError:
    try:
        return probe_duration(path)
    except AudioError as error:
        return error
