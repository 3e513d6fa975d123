"""Files that lie in an object store or on a server: `s3://bucket/key`, `gs://...`, `https://...`, through fsspec.

A remote file has a place in the local cache, by its address; whoever wants to read it has it `fetched` there first.
Files that have not been read for longest make room when there are more than `WHISPERSTILL_REMOTE_GIB` (100) of them.
fsspec speaks the protocol through a package of its own (s3fs, gcsfs, adlfs, ...), with its usual credentials.
"""

import os
import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from whisperstill.atomic_io import atomic_write_path, cache_directory
from whisperstill.errors import NotFoundError

MAX_CACHE_GIB = 100.0
EVICTION_INTERVAL_GIB = 1.0
"""Fetched between two looks at how much there is."""
_URL_PATTERN = re.compile(r"(?P<protocol>[a-z][a-z0-9+.-]+)://(?P<rest>.*)", re.DOTALL)
_downloaded_since_eviction = 0


def is_remote(source: str | Path) -> bool:
    """Whether a source is an address, not a path."""
    return isinstance(source, str) and _URL_PATTERN.match(source) is not None


def cache_path(url: str) -> Path:
    """Where in the cache a remote file or folder lies once it is fetched."""
    match = _URL_PATTERN.match(url)
    assert match is not None, url
    parts = [quote(part, safe=" ") for part in match["rest"].split("/") if part not in ("", ".")]
    return _cache_root().joinpath(match["protocol"], *(part.replace("..", "%2E%2E") for part in parts))


def url_of(path: Path) -> str | None:
    """The address of what lies, or will lie, at a path of the cache; None for any other path."""
    try:
        protocol, *parts = path.relative_to(_cache_root()).parts
    except ValueError:
        return None
    return f"{protocol}://{'/'.join(unquote(part) for part in parts)}"


def is_pending(path: Path) -> bool:
    """Whether a path is that of a remote file which was not fetched yet."""
    return url_of(path) is not None and not path.exists()


def download(path: Path) -> Path:
    """The same path, where its file now is. Nothing happens to a path that is not of the cache.

    Raises `NotFoundError` when there is no such remote file or it cannot be had.
    """
    url = url_of(path)
    if url is None:
        return path
    if path.exists():
        os.utime(path)
        return path
    filesystem, remote_path = _open_filesystem(url)
    try:
        with atomic_write_path(path) as temporary:
            filesystem.get_file(remote_path, str(temporary))
    except Exception as error:  # every protocol has its own
        raise NotFoundError(f"cannot fetch {url}: {type(error).__name__} {error}".rstrip()) from error
    _evict_old_files(path.stat().st_size)
    return path


def is_remote_directory(url: str) -> bool:
    """Whether an address is that of a folder. Raises `NotFoundError` when there is nothing, or no way to it."""
    filesystem, remote_path = _open_filesystem(url)
    try:
        return bool(filesystem.info(remote_path)["type"] == "directory")
    except Exception as error:
        raise NotFoundError(f"cannot find {url}: {type(error).__name__} {error}".rstrip()) from error


def list_files(url: str) -> list[Path]:
    """Places of all files under a folder's address, fetched or not."""
    filesystem, remote_path = _open_filesystem(url)
    prefix = remote_path.rstrip("/")
    return [cache_path(f"{url}/{file_path[len(prefix) :]}") for file_path in sorted(filesystem.find(remote_path))]


def _open_filesystem(url: str) -> tuple[Any, str]:
    """The file system of an address, and the file's name in it."""
    import fsspec

    try:
        filesystem, remote_path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:  # a protocol that is unknown, or whose package is not there
        raise NotFoundError(f"cannot reach {url}: {error}") from error
    return filesystem, remote_path


def _cache_root() -> Path:
    return cache_directory() / "remote"


def _evict_old_files(size: int) -> None:
    """Remove what was not read for longest, where there is too much."""
    global _downloaded_since_eviction
    _downloaded_since_eviction += size
    if _downloaded_since_eviction < EVICTION_INTERVAL_GIB * 2**30:
        return
    _downloaded_since_eviction = 0
    max_bytes = float(os.environ.get("WHISPERSTILL_REMOTE_GIB") or MAX_CACHE_GIB) * 2**30
    cached_files = [
        (path.stat().st_mtime, path.stat().st_size, path) for path in _cache_root().rglob("*") if path.is_file()
    ]
    total_bytes = sum(size for _, size, _ in cached_files)
    for last_read, size, path in sorted(cached_files, key=lambda cached_file: cached_file[0]):
        if total_bytes <= max_bytes or time.time() - last_read < 60:  # somebody may be reading it
            return
        path.unlink(missing_ok=True)
        total_bytes -= size
