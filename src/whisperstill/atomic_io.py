"""Atomic writing of files, their hashes, and the cache folder.

A file is written under a temporary name in the same folder, flushed to disk and renamed. A reader sees the old or the
new file, never a partial one, even if the writer is killed.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write_path(path: Path) -> Iterator[Path]:
    """Temporary path to write to, renamed to `path` when the block succeeds and removed when it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":  # flush the rename as well
        directory_fd = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory_fd)
        finally:
            os.close(directory_fd)


def atomic_write(path: Path, content: bytes | str) -> None:
    """Write a file; text is encoded as UTF-8, line ends are not translated."""
    with atomic_write_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def remove_partial_files(directory: Path) -> None:
    """Remove temporary files of killed writers. No other process may be writing to this folder."""
    for partial_file in directory.glob(".*.part"):
        partial_file.unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_directory() -> Path:
    """Cache folder: `$WHISPERSTILL_CACHE`, else `$XDG_CACHE_HOME/whisperstill`, else `~/.cache/whisperstill`."""
    if override := os.environ.get("WHISPERSTILL_CACHE"):
        return Path(override).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "whisperstill"
