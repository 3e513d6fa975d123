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

from whisperstill.atomic_io import atomic_write, atomic_write_path, file_sha256, remove_partial_files
from whisperstill.distill.process_group import ProcessGroup
from whisperstill.errors import StoreError
from whisperstill.model.whisper import Whisper

MAX_CHECKPOINTS = 2


@dataclass
class TrainState:
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


def trainable_parameters(network: Whisper) -> dict[str, torch.nn.Parameter]:
    """The weights that are trained, by name."""
    return {name: weight for name, weight in network.named_parameters() if weight.requires_grad}


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, output: Path, process_group: ProcessGroup) -> None:
        self.directory = output / "checkpoints"
        self.directory.mkdir(parents=True, exist_ok=True)
        self._manifest_path = self.directory / "manifest.json"
        self._process_group = process_group
        if process_group.is_main:
            remove_partial_files(self.directory)
        process_group.barrier()

    def save(
        self,
        network: Whisper,
        optimizer: torch.optim.Optimizer,
        ema_weights: dict[str, Tensor],
        train_state: TrainState,
    ) -> None:
        """Write a checkpoint of this moment; older ones than the last `MAX_CHECKPOINTS` are removed after it exists."""
        tensors: dict[str, Tensor] = {}
        for name, weight in trainable_parameters(network).items():
            if self._process_group.is_main:
                tensors[f"weight/{name}"] = weight.detach().contiguous()
                if name in ema_weights:
                    tensors[f"ema/{name}"] = ema_weights[name].contiguous()
            for key, value in optimizer.state.get(weight, {}).items():
                tensors[f"{key}/{name}"] = value.detach().clone().contiguous()
        file_names = self._file_names(train_state.step)
        self._write(file_names[self._process_group.rank], tensors, {"train_state": json.dumps(asdict(train_state))})
        self._process_group.barrier()
        if not self._process_group.is_main:
            return
        entries = [entry for entry in self._entries() if entry["step"] < train_state.step]
        files = {name: file_sha256(self.directory / name) for name in file_names}
        entries.append({"step": train_state.step, "files": files, "best": train_state.best_step})
        atomic_write(self._manifest_path, json.dumps(entries[-MAX_CHECKPOINTS:], indent=1))
        for expired_entry in entries[:-MAX_CHECKPOINTS]:
            for name in expired_entry["files"]:
                (self.directory / name).unlink(missing_ok=True)
        referenced_paths = {self._best_path(entry["best"]) for entry in entries[-MAX_CHECKPOINTS:]}
        for path in self.directory.glob("best-*.safetensors"):
            if path not in referenced_paths:
                path.unlink()

    def save_best(self, network: Whisper, step: int) -> None:
        """Keep these weights as the best so far; those before stay until no checkpoint means them."""
        if not self._process_group.is_main:
            return
        tensors = {name: weight.detach().contiguous() for name, weight in trainable_parameters(network).items()}
        self._write(self._best_path(step).name, tensors, {"step": str(step)})

    def restore(
        self,
        network: Whisper,
        optimizer: torch.optim.Optimizer,
        ema_weights: dict[str, Tensor],
        identity: dict[str, Any],
    ) -> TrainState | None:
        """Bring network, optimiser and average to the newest checkpoint; None when there is none yet.

        Raises `StoreError` when the checkpoints belong to another run, or none of them is whole.
        """
        entries = self._entries()
        for entry in reversed(entries):
            sha256_by_path = {self.directory / name: sha256 for name, sha256 in entry["files"].items()}
            if all(path.exists() and file_sha256(path) == sha256 for path, sha256 in sha256_by_path.items()):
                return self._load(
                    list(sha256_by_path), network, optimizer, ema_weights, json.loads(json.dumps(identity))
                )
        if entries:
            raise StoreError(f"no checkpoint in {self.directory} is whole: delete that folder and train anew")
        return None

    def _load(
        self,
        paths: Sequence[Path],
        network: Whisper,
        optimizer: torch.optim.Optimizer,
        ema_weights: dict[str, Tensor],
        identity: dict[str, Any],
    ) -> TrainState:
        owned_weights = {weight for group in optimizer.param_groups for weight in group["params"]}
        weights = trainable_parameters(network)
        state_fields: dict[str, Any] = {}
        for path in paths:
            with safe_open(str(path), framework="pt") as file:
                metadata = file.metadata()
                if "train_state" not in metadata:
                    raise StoreError(
                        f"{path} was written before 0.1.0: make it again (delete {self.directory}); "
                        "docs/glossary.md lists what was renamed"
                    )
                state_fields |= json.loads(metadata["train_state"])
                self._check_identity(state_fields["identity"], identity)
                for key in file.keys():  # noqa: SIM118
                    tensor_kind, _, name = key.partition("/")
                    weight = weights[name]
                    if tensor_kind in ("weight", "ema"):
                        with torch.no_grad():
                            (weight if tensor_kind == "weight" else ema_weights[name]).copy_(file.get_tensor(key))
                    elif weight in owned_weights:
                        optimizer.state[weight][tensor_kind] = file.get_tensor(key).to(
                            weight.device
                        )  # `step` too: fused
        return TrainState(**state_fields)

    def load_best(self, network: Whisper, step: int) -> None:
        """Put the weights that were the best, at `step`, into the network. Raises `StoreError` where they are gone."""
        path = self._best_path(step)
        try:
            with safe_open(str(path), framework="pt") as file, torch.no_grad():
                for name, weight in trainable_parameters(network).items():
                    weight.copy_(file.get_tensor(name))
        except (OSError, SafetensorError) as error:
            reason = f"the best weights, {path}, cannot be read ({error})"
            raise StoreError(f"{reason}: delete {self.directory} and train anew, or take what is in last/") from error

    def _best_path(self, step: int) -> Path:
        return self.directory / f"best-{step:08d}.safetensors"

    def _check_identity(self, saved: dict[str, Any], current: dict[str, Any]) -> None:
        differences = [
            f"{key} was {saved.get(key)}, is {current.get(key)}"
            for key in current
            if saved.get(key) != current.get(key)
        ]
        if differences:
            raise StoreError(
                f"{self.directory} belongs to another run ({'; '.join(differences)}): name another --output, "
                "or delete that folder"
            )

    def _file_names(self, step: int) -> list[str]:
        """A file for each process."""
        world_size = self._process_group.world_size
        suffixes = [""] if world_size == 1 else [f".{rank + 1}-of-{world_size}" for rank in range(world_size)]
        return [f"step-{step:08d}{suffix}.safetensors" for suffix in suffixes]

    def _write(self, name: str, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        with atomic_write_path(self.directory / name) as temporary:
            save_file(tensors, temporary, metadata)

    def _entries(self) -> list[dict[str, Any]]:
        if not self._manifest_path.exists():
            return []
        entries: list[dict[str, Any]] = json.loads(self._manifest_path.read_text())
        if not all("files" in entry and "best" in entry for entry in entries):
            raise StoreError(f"the checkpoints in {self.directory} are an older version's: delete that folder")
        return entries
