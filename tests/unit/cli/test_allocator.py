"""The restart happens once, and only where it helps."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from whisperstill.cli.allocator import GLIBC_TUNABLES, glibc_version, wants_restart

SOURCE = Path(__file__).resolve().parents[3] / "src"


@pytest.mark.parametrize(
    ("environment", "platform", "glibc", "expected"),
    [
        ({}, "linux", (2, 36), True),
        ({}, "linux", (2, 35), True),
        ({"WHISPERSTILL_NO_REEXEC": "0"}, "linux", (2, 36), True),
        ({}, "linux", (2, 31), False),
        ({}, "linux", None, False),
        ({}, "darwin", None, False),
        ({"GLIBC_TUNABLES": "glibc.malloc.check=1"}, "linux", (2, 36), False),
        ({"WHISPERSTILL_NO_REEXEC": "1"}, "linux", (2, 36), False),
    ],
    ids=["glibc 2.36", "glibc 2.35", "switched on", "old glibc", "no glibc", "macOS", "own tunables", "switched off"],
)
def test_restart_only_where_it_helps(
    environment: dict[str, str], platform: str, glibc: tuple[int, int] | None, expected: bool
) -> None:
    assert wants_restart(environment, platform, glibc) is expected


def test_the_restarted_process_keeps_its_arguments(tmp_path: Path) -> None:
    if not wants_restart({}, sys.platform, glibc_version()):
        pytest.skip("the C library of this machine has no such setting")
    script = tmp_path / "program.py"
    script.write_text(
        "import os, sys\nfrom whisperstill.cli.allocator import restart_with_allocator\n"
        "restart_with_allocator()\nprint(os.environ.get('GLIBC_TUNABLES'), *sys.argv[1:])\n"
    )
    clean = {key: value for key, value in os.environ.items() if key not in ("GLIBC_TUNABLES", "WHISPERSTILL_NO_REEXEC")}
    for extra, expected in (({}, GLIBC_TUNABLES), ({"WHISPERSTILL_NO_REEXEC": "1"}, "None")):
        done = subprocess.run(
            [sys.executable, str(script), "a b", "--c"],
            env={**clean, "PYTHONPATH": str(SOURCE), **extra},
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        )
        assert done.stdout.split() == [expected, "a", "b", "--c"]
