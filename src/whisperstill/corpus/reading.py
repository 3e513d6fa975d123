"""Reads a corpus: detects its layout, downloads remote manifests, and names it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from whisperstill.corpus import asterisk, commonvoice, folder, huggingface, jsonl, librispeech, ljspeech, table
from whisperstill.corpus.corpus import Corpus, build_corpus
from whisperstill.corpus.entry import Entry
from whisperstill.errors import CorpusError, NotFoundError, SettingsError
from whisperstill.plugins import PluginGroup
from whisperstill.records import Skipped
from whisperstill.remote_files import cache_path, download, is_remote, is_remote_directory, list_files

MANIFEST_SUFFIXES = (*jsonl.SUFFIXES, *table.SUFFIXES)


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
