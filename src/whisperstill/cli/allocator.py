"""Restarts the process once, so that glibc's allocator keeps freed memory. Nothing else in the program does so.

CAUTION: the verbs that compute replace their own process (`os.execve`) by the same interpreter with the same arguments
and `GLIBC_TUNABLES` set, without asking. glibc reads `GLIBC_TUNABLES` only at process start, hence the restart; it
happens before anything heavy is imported and takes some milliseconds.

Why: training and labelling on a CPU allocate and free large temporaries all the time. By default glibc maps and unmaps
each of them, and on small virtual machines up to half of a step can be page faults. With the setting, freed memory is
kept, in huge pages where the kernel offers them.

There is no restart with `WHISPERSTILL_NO_REEXEC=1`, if `GLIBC_TUNABLES` is already set, and where it cannot help (not
Linux, or glibc older than 2.35).
"""

import contextlib
import os
import platform
import sys
from collections.abc import Mapping

UNREACHABLE_THRESHOLD_BYTES = 2**40
"""Larger than any allocation."""
GLIBC_TUNABLES = (
    f"glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold={UNREACHABLE_THRESHOLD_BYTES}"
    f":glibc.malloc.trim_threshold={UNREACHABLE_THRESHOLD_BYTES}"
)


def glibc_version() -> tuple[int, int] | None:
    """Version of the C library as (major, minor); None if it is not glibc."""
    name, version = platform.libc_ver()
    if name != "glibc":
        return None
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def wants_restart(environment: Mapping[str, str], system: str, glibc: tuple[int, int] | None) -> bool:
    """Whether a restart with `GLIBC_TUNABLES` helps."""
    return (
        system == "linux"
        and glibc is not None
        and glibc >= (2, 35)
        and "GLIBC_TUNABLES" not in environment
        and environment.get("WHISPERSTILL_NO_REEXEC", "") in ("", "0")
    )


def restart_with_allocator() -> None:
    """Restarts this process with `GLIBC_TUNABLES` set; returns if that does not help or is not possible."""
    if not wants_restart(os.environ, sys.platform, glibc_version()) or not sys.executable:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    command, environment = [sys.executable, *sys.orig_argv[1:]], {**os.environ, "GLIBC_TUNABLES": GLIBC_TUNABLES}
    with contextlib.suppress(OSError):
        os.execve(sys.executable, command, environment)
