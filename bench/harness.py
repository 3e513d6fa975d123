"""Shared by all benchmarks: command line, provenance of a result, interleaved rounds, datasets, result files.

Every result file holds the question, the commit, the command, the machine, the threads and the library versions.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from whisperstill.atomic_io import atomic_write

T = TypeVar("T")

RESULTS = Path("bench/results")
LIBRARIES = ("torch", "transformers", "faster-whisper", "ctranslate2", "pywhispercpp")


def argument_parser(description: str | None, result_name: str = "") -> argparse.ArgumentParser:
    """A parser whose help is the script's docstring, with `--threads`, and `--output` if there is a result file."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="threads of every library")
    if result_name:
        parser.add_argument("--output", type=Path, default=RESULTS / result_name, help="result file (JSON)")
    return parser


def set_threads(threads: int) -> None:
    """Set torch's number of threads."""
    import torch

    torch.set_num_threads(threads)


def silence_transformers() -> None:
    """Switch off the warnings and progress bars of transformers."""
    from transformers.utils import logging as transformers_logging

    logging: Any = transformers_logging
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def provenance() -> dict[str, Any]:
    """Commit, command, machine, threads and versions of this run."""
    import torch

    return {
        "commit": commit(),
        "command": " ".join(["python", *sys.argv]),
        "machine": processor(),
        "threads": torch.get_num_threads(),
        "allocator": os.environ.get("GLIBC_TUNABLES", ""),
        "versions": {"python": platform.python_version(), **library_versions()},
    }


def commit() -> str:
    """Hash of the checkout, with `-dirty` if files were changed."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def processor() -> str:
    """Name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def library_versions() -> dict[str, str]:
    """Versions of the installed libraries that are compared."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def write_result(path: Path, question: str, content: Mapping[str, Any]) -> None:
    """Write a result with its question and provenance."""
    result = {"question": question, **provenance(), **content}
    atomic_write(path, json.dumps(result, indent=1, ensure_ascii=False) + "\n")


def interleaved(systems: Sequence[T], rounds: int) -> Iterator[tuple[int, T]]:
    """(round, system), forward and backward in turn (A B C, C B A, ...); round 0 is the warm-up."""
    for number in range(rounds + 1):
        for system in systems if number % 2 else systems[::-1]:
            yield number, system


def median_ratio(seconds: Sequence[float], baseline: Sequence[float]) -> float:
    """Median over rounds of a system's time over the baseline's in the same round."""
    return median(value / reference for value, reference in zip(seconds, baseline, strict=True))


@dataclass(frozen=True)
class Clip:
    """One line of a dataset's manifest."""

    id: str
    dataset: str
    path: str
    text: str
    duration: float
    entry: dict[str, Any]
    """The manifest line."""


def read_clips(speech: Path, datasets: Iterable[str], only: Sequence[str] = ()) -> list[Clip]:
    """Clips of some datasets; `only` selects ids."""
    clips = []
    for dataset in datasets:
        for line in (speech / dataset / "manifest.jsonl").read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            if not only or entry["id"] in only:
                path = str(speech / dataset / entry["audio"])
                clips.append(Clip(entry["id"], dataset, path, entry["text"], entry.get("duration_s", 0.0), entry))
    return clips


def peak_memory_gib() -> float:
    """Peak resident memory of this process (getrusage would include its parent's at the fork)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20
