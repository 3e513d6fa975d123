"""Starts the program once more with an allocator setting that cannot be changed later.

Training and labelling on a CPU make and drop large temporaries all the time. By default glibc maps each anew and gives
it back, and on small virtual machines up to half of a step can be page faults; here it keeps what it has, in huge pages
where the kernel gives them. glibc reads `GLIBC_TUNABLES` only when a process starts, hence a second start: the same
interpreter with the same arguments, before anything heavy is imported (some milliseconds). It is left out where it
cannot help (no Linux, glibc older than 2.35), where `GLIBC_TUNABLES` is set already (the user knows better), and
where `WHISPERSTILL_NO_REEXEC=1` forbids it.
"""

import os
import sys
from collections.abc import Mapping

UNREACHABLE_THRESHOLD_BYTES = 2**40
"""Bytes: a threshold that is not reached."""
GLIBC_TUNABLES = (
    f"glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold={UNREACHABLE_THRESHOLD_BYTES}"
    f":glibc.malloc.trim_threshold={UNREACHABLE_THRESHOLD_BYTES}"
)


def glibc_version() -> tuple[int, int] | None:
    """Version of the C library as (major, minor); None where it is not glibc."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        major, minor = version.split(".")[:2]
        return (int(major), int(minor)) if name == "glibc" else None
    except (AttributeError, OSError, ValueError):
        return None


def wants_restart(environment: Mapping[str, str], platform: str, glibc: tuple[int, int] | None) -> bool:
    """Whether a second start with `GLIBC_TUNABLES` would help."""
    return (
        platform == "linux"
        and glibc is not None
        and glibc >= (2, 35)
        and "GLIBC_TUNABLES" not in environment
        and environment.get("WHISPERSTILL_NO_REEXEC", "") in ("", "0")
    )


def restart_with_allocator() -> None:
    """Replaces this process by itself with `GLIBC_TUNABLES` set; returns if that is not wanted or not possible."""
    if not wants_restart(os.environ, sys.platform, glibc_version()) or not sys.executable:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execve(
            sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "GLIBC_TUNABLES": GLIBC_TUNABLES}
        )
    except OSError:
        return
