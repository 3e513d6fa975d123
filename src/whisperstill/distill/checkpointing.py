"""Training checkpoints: what a run needs to go on as if it had never stopped.

    checkpoints/manifest.json                names, steps and SHA-256 of the checkpoints that exist
    checkpoints/step-00000200.safetensors    trained weights, both moments of AdamW, and the run's state as JSON
    checkpoints/best-00000200.safetensors    trained weights at the step with the lowest validation WER so far

Each file is written aside, flushed and renamed, then named in the manifest; the one before is kept until then. Of
several processes each writes the moments of the weights that it updates (`step-00000200.1-of-2.safetensors`), the first
one the weights, too; any number of processes can go on from that.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from whisperstill.distill.ranks import Ranks
from whisperstill.errors import StoreError
from whisperstill.files import file_sha256, remove_left_over, whole, write_whole
from whisperstill.model.whisper import Whisper

KEEP = 2


@dataclass
class Progress:
    """Where a run stands. All that is not weights."""

    step: int = 0
    """Optimiser steps done."""
    best_wer: float | None = None
    best_step: int = 0
    windows_encoded: int = 0
    """Windows the encoder has read in training so far."""
    hours_of_audio: float = 0.0
    identity: dict[str, Any] = field(default_factory=dict)
    """What decides the run: settings, student, labels. A resume must find the same."""


def trained(network: Whisper) -> dict[str, torch.nn.Parameter]:
    """The weights that are trained, by name."""
    return {name: weight for name, weight in network.named_parameters() if weight.requires_grad}


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, output: Path, ranks: Ranks) -> None:
        self.directory = output / "checkpoints"
        self.directory.mkdir(parents=True, exist_ok=True)
        self._manifest_path = self.directory / "manifest.json"
        self._ranks = ranks
        if ranks.leads:
            remove_left_over(self.directory)
        ranks.wait()

    def save(
        self, network: Whisper, optimiser: torch.optim.Optimizer, average: dict[str, Tensor], progress: Progress
    ) -> None:
        """Write a checkpoint of this moment; older ones than the last `KEEP` are removed after it exists."""
        tensors: dict[str, Tensor] = {}
        for name, weight in trained(network).items():
            if self._ranks.leads:
                tensors[f"weight/{name}"] = weight.detach().contiguous()
                if name in average:
                    tensors[f"average/{name}"] = average[name].contiguous()
            for key, value in optimiser.state.get(weight, {}).items():
                tensors[f"{key}/{name}"] = value.detach().clone().contiguous()
        names = self._names(progress.step)
        self._write(names[self._ranks.rank], tensors, {"progress": json.dumps(asdict(progress))})
        self._ranks.wait()
        if not self._ranks.leads:
            return
        entries = [old for old in self._entries() if old["step"] < progress.step]
        files = {name: file_sha256(self.directory / name) for name in names}
        entries.append({"step": progress.step, "files": files, "best": progress.best_step})
        write_whole(self._manifest_path, json.dumps(entries[-KEEP:], indent=1))
        for old in entries[:-KEEP]:
            for name in old["files"]:
                (self.directory / name).unlink(missing_ok=True)
        named = {self._best(entry["best"]) for entry in entries[-KEEP:]}
        for path in self.directory.glob("best-*.safetensors"):
            if path not in named:
                path.unlink()

    def save_best(self, network: Whisper, step: int) -> None:
        """Keep these weights as the best so far; those before stay until no checkpoint means them."""
        if not self._ranks.leads:
            return
        tensors = {name: weight.detach().contiguous() for name, weight in trained(network).items()}
        self._write(self._best(step).name, tensors, {"step": str(step)})

    def restore(
        self,
        network: Whisper,
        optimiser: torch.optim.Optimizer,
        average: dict[str, Tensor],
        identity: dict[str, Any],
    ) -> Progress | None:
        """Bring network, optimiser and average to the newest checkpoint; None when there is none yet.

        Raises `StoreError` when the checkpoints belong to another run, or none of them is whole.
        """
        entries = self._entries()
        for entry in reversed(entries):
            paths = {self.directory / name: digest for name, digest in entry["files"].items()}
            if all(path.exists() and file_sha256(path) == digest for path, digest in paths.items()):
                return self._read(list(paths), network, optimiser, average, json.loads(json.dumps(identity)))
        if entries:
            raise StoreError(f"no checkpoint in {self.directory} is whole: delete that folder and train anew")
        return None

    def _read(
        self,
        paths: Sequence[Path],
        network: Whisper,
        optimiser: torch.optim.Optimizer,
        average: dict[str, Tensor],
        identity: dict[str, Any],
    ) -> Progress:
        updated = {weight for group in optimiser.param_groups for weight in group["params"]}
        weights = trained(network)
        found: dict[str, Any] = {}
        for path in paths:
            with safe_open(str(path), framework="pt") as file:
                found |= json.loads(file.metadata()["progress"])
                self._check(found["identity"], identity)
                for key in file.keys():  # noqa: SIM118
                    what, _, name = key.partition("/")
                    weight = weights[name]
                    if what in ("weight", "average"):
                        with torch.no_grad():
                            (weight if what == "weight" else average[name]).copy_(file.get_tensor(key))
                    elif weight in updated:
                        optimiser.state[weight][what] = file.get_tensor(key).to(weight.device)  # `step` too: fused
        return Progress(**found)

    def load_best(self, network: Whisper, step: int) -> None:
        """Put the weights that were the best, at `step`, into the network. Raises `StoreError` where they are gone."""
        path = self._best(step)
        try:
            with safe_open(str(path), framework="pt") as file, torch.no_grad():
                for name, weight in trained(network).items():
                    weight.copy_(file.get_tensor(name))
        except (OSError, SafetensorError) as error:
            why = f"the best weights, {path}, cannot be read ({error})"
            raise StoreError(f"{why}: delete {self.directory} and train anew, or take what is in last/") from error

    def _best(self, step: int) -> Path:
        return self.directory / f"best-{step:08d}.safetensors"

    def _check(self, had: dict[str, Any], wanted: dict[str, Any]) -> None:
        differing = [
            f"{key} was {had.get(key)}, is {wanted.get(key)}" for key in wanted if had.get(key) != wanted.get(key)
        ]
        if differing:
            raise StoreError(
                f"{self.directory} belongs to another run ({'; '.join(differing)}): name another --output, "
                "or delete that folder"
            )

    def _names(self, step: int) -> list[str]:
        """A file for each process."""
        size = self._ranks.size
        parts = [""] if size == 1 else [f".{rank + 1}-of-{size}" for rank in range(size)]
        return [f"step-{step:08d}{part}.safetensors" for part in parts]

    def _write(self, name: str, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        with whole(self.directory / name) as temporary:
            save_file(tensors, temporary, metadata)

    def _entries(self) -> list[dict[str, Any]]:
        if not self._manifest_path.exists():
            return []
        entries: list[dict[str, Any]] = json.loads(self._manifest_path.read_text())
        if not all("files" in entry and "best" in entry for entry in entries):
            raise StoreError(f"the checkpoints in {self.directory} are an older version's: delete that folder")
        return entries
