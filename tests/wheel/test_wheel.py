"""The wheel works in a new environment with the dependencies of this one."""

import subprocess
import sys
from pathlib import Path


def test_wheel_works_without_the_repository(root: Path, tmp_path: Path) -> None:
    """Build the wheel and run the installed program: help, report, types, transcription."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(root)]
    built = subprocess.run(build, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    attempt = [sys.executable, str(root / "tests" / "wheel" / "try_wheel.py"), str(wheel), "--no-dependencies"]
    tried = subprocess.run(attempt, capture_output=True, text=True, check=False)
    assert tried.returncode == 0, tried.stdout + tried.stderr
