"""From a source to a corpus: which layout it has, and what to call it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from whisperstill.corpus import (
    asterisk,
    commonvoice,
    folder,
    huggingface,
    jsonl,
    librispeech,
    ljspeech,
    table,
)
from whisperstill.corpus.corpus import Corpus, Entry, build_corpus
from whisperstill.errors import CorpusError, NotFoundError, SettingsError
from whisperstill.plugins import registered
from whisperstill.records import Skipped
from whisperstill.remote_files import cache_path, download, is_remote, is_remote_directory, list_files

MANIFEST_SUFFIXES = (*jsonl.SUFFIXES, *table.SUFFIXES)


@dataclass(frozen=True, slots=True)
class Layout:
    """How a corpus may lie on the disk."""

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
"""In the order in which they are tried: what can be told by a name first, what needs a search of the folder last."""


def all_layouts() -> dict[str, Layout]:
    """`LAYOUTS` and those registered by other packages (`plugins`), which are detected first."""
    return {**registered("corpus_readers"), **LAYOUTS}


def read_corpus(
    source: str | Path, *, layout: str = "auto", language: str | None = None, full_recordings: bool = False
) -> Corpus:
    """The utterances of a manifest, a folder or `hf:name/config/split`; what is wrong in it is listed, never fatal.

    A manifest or a folder may lie in an object store (`s3://bucket/corpus`): audio is then fetched when it is heard,
    where its manifest states how long it is.

    `layout` is a key of `LAYOUTS`; `auto` finds out. `language` (`en`) is taken where the corpus states none. With
    `whole`, a JSONL manifest's recordings are not taken apart into its `segments`. The corpus is named after its
    folder; a manifest that is not called manifest.* adds its own name. Raises `CorpusError` when the source does not
    exist, has none of the layouts, or holds no usable utterance; `SettingsError` for a layout that does not exist;
    `MissingExtraError` when the hub is asked for without the extra.
    """
    layouts = all_layouts()
    if layout != "auto" and layout not in layouts:
        raise SettingsError(f"layout must be auto or one of {', '.join(layouts)}, got {layout}")
    if huggingface.is_hub_dataset(source) and layout in ("auto", "huggingface"):
        return build_corpus(
            huggingface.hub_corpus_name(str(source)), huggingface.read_hub_entries(str(source)), language
        )
    path = _download_corpus(str(source)) if is_remote(source) else Path(source)
    try:
        if not path.exists() and not huggingface.can_read(path):
            raise CorpusError(f"expected a manifest, a folder or hf:name/config/split, found nothing at {source}")
        if layout == "auto":
            layout = next((name for name, candidate in layouts.items() if candidate.can_read(path)), "")
        if not layout:
            raise CorpusError(f"expected one of the layouts {', '.join(layouts)} at {source}, found none of them")
        entries = jsonl.read_entries(path, full_recordings) if layout == "jsonl" else layouts[layout].read_entries(path)
        return build_corpus(corpus_name(path), entries, language)
    except OSError as error:
        raise CorpusError(f"cannot read {source}: {error.strerror or error}") from error


def _download_corpus(address: str) -> Path:
    """A remote corpus in the cache: its manifests, and of a folder without one everything."""
    try:
        if not is_remote_directory(address):
            cache_path(address).unlink(missing_ok=True)  # it may have changed
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


def corpus_name(source: Path) -> str:
    """Name of the folder; `folder-name` for a file that is not called manifest.* or metadata.*."""
    source = source.resolve()
    if not source.is_file():
        return source.name
    if source.stem in ("manifest", "metadata"):
        return source.parent.name
    return f"{source.parent.name}-{source.stem}"
