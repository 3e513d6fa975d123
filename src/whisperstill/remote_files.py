"""Files in an object store or on a server (`s3://bucket/key`, `gs://...`, `https://...`), cached locally.

Every URL has a fixed path in the cache; `download` fetches the file there. The least recently used files are evicted
when the cache exceeds `$WHISPERSTILL_REMOTE_GIB` (default 100). fsspec needs a package per protocol (s3fs, gcsfs,
adlfs, ...) and uses that package's usual credentials.
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
"""Amount downloaded between two checks of the cache size."""
_URL_PATTERN = re.compile(r"(?P<protocol>[a-z][a-z0-9+.-]+)://(?P<rest>.*)", re.DOTALL)
_downloaded_since_eviction = 0


def is_remote(source: str | Path) -> bool:
    """Whether a source is a URL, not a path."""
    return isinstance(source, str) and _URL_PATTERN.match(source) is not None


def cache_path(url: str) -> Path:
    """Path of a remote file or folder in the cache, downloaded or not."""
    match = _URL_PATTERN.match(url)
    assert match is not None, url
    parts = [quote(part, safe=" ") for part in match["rest"].split("/") if part not in ("", ".")]
    return _cache_root().joinpath(match["protocol"], *(part.replace("..", "%2E%2E") for part in parts))


def url_of(path: Path) -> str | None:
    """URL of a path in the cache; None for any other path."""
    try:
        protocol, *parts = path.relative_to(_cache_root()).parts
    except ValueError:
        return None
    return f"{protocol}://{'/'.join(unquote(part) for part in parts)}"


def is_pending(path: Path) -> bool:
    """Whether a path is that of a remote file that is not downloaded yet."""
    return url_of(path) is not None and not path.exists()


def download(path: Path) -> Path:
    """Download the remote file of a path in the cache, if needed; returns the path. Other paths are left alone.

    Raises `NotFoundError` when the remote file does not exist or cannot be downloaded.
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
    except Exception as error:  # every protocol has its own error types
        raise NotFoundError(f"cannot download {url}: {type(error).__name__} {error}".rstrip()) from error
    _evict_old_files(path.stat().st_size)
    return path


def is_remote_directory(url: str) -> bool:
    """Whether a URL is a folder. Raises `NotFoundError` when it does not exist or cannot be reached."""
    filesystem, remote_path = _open_filesystem(url)
    try:
        return bool(filesystem.info(remote_path)["type"] == "directory")
    except Exception as error:
        raise NotFoundError(f"cannot find {url}: {type(error).__name__} {error}".rstrip()) from error


def list_files(url: str) -> list[Path]:
    """Cache paths of all files under a folder's URL, downloaded or not."""
    filesystem, remote_path = _open_filesystem(url)
    prefix = remote_path.rstrip("/")
    return [cache_path(f"{url}/{file_path[len(prefix) :]}") for file_path in sorted(filesystem.find(remote_path))]


def _open_filesystem(url: str) -> tuple[Any, str]:
    import fsspec

    try:
        filesystem, remote_path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:  # unknown protocol, or its package is not installed
        raise NotFoundError(f"cannot reach {url}: {error}") from error
    return filesystem, remote_path


def _cache_root() -> Path:
    return cache_directory() / "remote"


def _evict_old_files(size: int) -> None:
    global _downloaded_since_eviction
    _downloaded_since_eviction += size
    if _downloaded_since_eviction < EVICTION_INTERVAL_GIB * 2**30:
        return
    _downloaded_since_eviction = 0
    max_bytes = float(os.environ.get("WHISPERSTILL_REMOTE_GIB") or MAX_CACHE_GIB) * 2**30
    cached_files = [(path, path.stat()) for path in _cache_root().rglob("*") if path.is_file()]
    total_bytes = sum(status.st_size for _, status in cached_files)
    for path, status in sorted(cached_files, key=lambda cached_file: cached_file[1].st_mtime):
        if total_bytes <= max_bytes or time.time() - status.st_mtime < 60:  # may be in use
            return
        path.unlink(missing_ok=True)
        total_bytes -= status.st_size
