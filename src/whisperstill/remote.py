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

from whisperstill.errors import NotFoundError
from whisperstill.files import cache_directory, whole

ROOM_GIB = 100.0
LOOKS_EVERY_GIB = 1.0
"""Fetched between two looks at how much there is."""
_ADDRESS = re.compile(r"(?P<protocol>[a-z][a-z0-9+.-]+)://(?P<rest>.*)", re.DOTALL)
_fetched_since = 0


def is_remote(source: str | Path) -> bool:
    """Whether a source is an address, not a path."""
    return isinstance(source, str) and _ADDRESS.match(source) is not None


def place_of(address: str) -> Path:
    """Where in the cache a remote file or folder lies once it is fetched."""
    found = _ADDRESS.match(address)
    assert found is not None, address
    parts = [quote(part, safe=" ") for part in found["rest"].split("/") if part not in ("", ".")]
    return _root().joinpath(found["protocol"], *(part.replace("..", "%2E%2E") for part in parts))


def address_of(path: Path) -> str | None:
    """The address of what lies, or will lie, at a path of the cache; None for any other path."""
    try:
        protocol, *parts = path.relative_to(_root()).parts
    except ValueError:
        return None
    return f"{protocol}://{'/'.join(unquote(part) for part in parts)}"


def awaited(path: Path) -> bool:
    """Whether a path is that of a remote file which was not fetched yet."""
    return address_of(path) is not None and not path.exists()


def fetched(path: Path) -> Path:
    """The same path, where its file now is. Nothing happens to a path that is not of the cache.

    Raises `NotFoundError` when there is no such remote file or it cannot be had.
    """
    address = address_of(path)
    if address is None:
        return path
    if path.exists():
        os.utime(path)
        return path
    files, name = _files(address)
    try:
        with whole(path) as temporary:
            files.get_file(name, str(temporary))
    except Exception as error:  # every protocol has its own
        raise NotFoundError(f"cannot fetch {address}: {type(error).__name__} {error}".rstrip()) from error
    _make_room(path.stat().st_size)
    return path


def is_folder(address: str) -> bool:
    """Whether an address is that of a folder. Raises `NotFoundError` when there is nothing, or no way to it."""
    files, name = _files(address)
    try:
        return bool(files.info(name)["type"] == "directory")
    except Exception as error:
        raise NotFoundError(f"cannot find {address}: {type(error).__name__} {error}".rstrip()) from error


def listed(address: str) -> list[Path]:
    """Places of all files under a folder's address, fetched or not."""
    files, name = _files(address)
    within = name.rstrip("/")
    return [place_of(f"{address}/{found[len(within) :]}") for found in sorted(files.find(name))]


def _files(address: str) -> tuple[Any, str]:
    """The file system of an address, and the file's name in it."""
    import fsspec

    try:
        files, name = fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:  # a protocol that is unknown, or whose package is not there
        raise NotFoundError(f"cannot reach {address}: {error}") from error
    return files, name


def _root() -> Path:
    return cache_directory() / "remote"


def _make_room(size: int) -> None:
    """Remove what was not read for longest, where there is too much."""
    global _fetched_since
    _fetched_since += size
    if _fetched_since < LOOKS_EVERY_GIB * 2**30:
        return
    _fetched_since = 0
    room = float(os.environ.get("WHISPERSTILL_REMOTE_GIB") or ROOM_GIB) * 2**30
    found = [(entry.stat().st_mtime, entry.stat().st_size, entry) for entry in _root().rglob("*") if entry.is_file()]
    total = sum(size for _, size, _ in found)
    for read_at, size, entry in sorted(found, key=lambda one: one[0]):
        if total <= room or time.time() - read_at < 60:  # somebody may be reading it
            return
        entry.unlink(missing_ok=True)
        total -= size
