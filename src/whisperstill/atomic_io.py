"""Files that are there whole or not at all, and their hashes.

A file is written under a temporary name beside its own, flushed to the disk and renamed: a reader sees the old file or
the new one, never half of one, whenever the writer is killed.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write_path(path: Path) -> Iterator[Path]:
    """A temporary path to write to; it takes the name of `path` when the block ends well, else it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":  # the new name, too, has to reach the disk
        directory_fd = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory_fd)
        finally:
            os.close(directory_fd)


def atomic_write(path: Path, content: bytes | str) -> None:
    """Write a file; text as UTF-8 with `\\n` as it stands."""
    with atomic_write_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def remove_partial_files(directory: Path) -> None:
    """Remove the temporary files of writers that were killed. Nobody else may be writing in this folder."""
    for partial_file in directory.glob(".*.part"):
        partial_file.unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_directory() -> Path:
    """Where this project remembers things: `WHISPERSTILL_CACHE`, else `whisperstill` in the user's cache."""
    if override := os.environ.get("WHISPERSTILL_CACHE"):
        return Path(override)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "whisperstill"
