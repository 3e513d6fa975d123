"""Versions of whisperstill and of the libraries that results depend on."""

import platform
from importlib.metadata import PackageNotFoundError, version

from whisperstill._version import __version__


def installed_version(distribution: str) -> str | None:
    """Version of an installed distribution; None if it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def package_versions() -> dict[str, str]:
    """Versions written beside every result: whisperstill, Python, machine, torch, tokenizers, numpy."""
    versions = {"whisperstill": __version__, "python": platform.python_version(), "machine": platform.machine()}
    libraries = {name: installed_version(name) for name in ("torch", "tokenizers", "numpy")}
    return versions | {name: number for name, number in libraries.items() if number is not None}
