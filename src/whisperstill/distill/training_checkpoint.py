"""Training checkpoints: resume from checkpoint as if the run had never stopped.

    checkpoints/manifest.json                names, steps and SHA-256 of the existing checkpoints
    checkpoints/step-00000200.safetensors    trained weights, both moments of AdamW, and the train state as JSON
    checkpoints/best-00000200.safetensors    trained weights at the step with the lowest validation WER so far

Each file is written under a temporary name, flushed, renamed, and then named in the manifest; the previous checkpoint
is kept until then. With several processes each writes the moments of the weights that it updates
(`step-00000200.1-of-2.safetensors`), and the first one also the weights; any number of processes can resume from them.
"""

import json
from collections.abc import Mapping
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
from whisperstill.records.json_value import JsonValue

MAX_CHECKPOINTS = 2


@dataclass
class TrainState:
    """State of a run besides its weights."""

    step: int = 0
    """Optimizer steps done."""
    best_wer: float | None = None
    """Lowest validation WER, per cent."""
    best_step: int = 0
    windows_encoded: int = 0
    """Windows for which an encoder ran so far."""
    identity: dict[str, JsonValue] = field(default_factory=dict)
    """What decides the weights: settings, student, labels. A resumed run must have the same."""


def trainable_parameters(network: Whisper) -> dict[str, torch.nn.Parameter]:
    """Parameters that require gradients, by name."""
    return {name: weight for name, weight in network.named_parameters() if weight.requires_grad}


class Checkpoints:
    """Checkpoints of one run: of these weights, their optimizer state and their average."""

    def __init__(
        self,
        output: Path,
        network: Whisper,
        optimizer: torch.optim.Optimizer,
        ema_weights: dict[str, Tensor],
        process_group: ProcessGroup,
    ) -> None:
        self._weights, self._optimizer, self._ema_weights = trainable_parameters(network), optimizer, ema_weights
        self.directory = output / "checkpoints"
        self.directory.mkdir(parents=True, exist_ok=True)
        self._manifest_path = self.directory / "manifest.json"
        self._process_group = process_group
        if process_group.is_main:
            remove_partial_files(self.directory)
        process_group.barrier()

    def save(self, train_state: TrainState) -> None:
        """Write a checkpoint, then remove all but the last `MAX_CHECKPOINTS`."""
        # 1. Each process writes its file.
        tensors: dict[str, Tensor] = {}
        for name, weight in self._weights.items():
            if self._process_group.is_main:
                tensors[f"weight/{name}"] = weight.detach().contiguous()
                if name in self._ema_weights:
                    tensors[f"ema/{name}"] = self._ema_weights[name].contiguous()
            for key, value in self._optimizer.state.get(weight, {}).items():
                tensors[f"{key}/{name}"] = value.detach().clone().contiguous()
        file_names = self._file_names(train_state.step)
        self._write(file_names[self._process_group.rank], tensors, {"train_state": json.dumps(asdict(train_state))})
        self._process_group.barrier()
        if not self._process_group.is_main:
            return
        # 2. The manifest names the new checkpoint once all files exist.
        entries = [entry for entry in self._entries() if entry["step"] < train_state.step]
        files = {name: file_sha256(self.directory / name) for name in file_names}
        entries.append({"step": train_state.step, "files": files, "best": train_state.best_step})
        atomic_write(self._manifest_path, json.dumps(entries[-MAX_CHECKPOINTS:], indent=1))
        # 3. Expired checkpoints, and best weights that no checkpoint refers to.
        for expired_entry in entries[:-MAX_CHECKPOINTS]:
            for name in expired_entry["files"]:
                (self.directory / name).unlink(missing_ok=True)
        referenced_paths = {self._best_path(entry["best"]) for entry in entries[-MAX_CHECKPOINTS:]}
        for path in self.directory.glob("best-*.safetensors"):
            if path not in referenced_paths:
                path.unlink()

    def save_best(self, step: int) -> None:
        """Save these weights as the best so far; earlier ones are kept while a checkpoint refers to them."""
        if not self._process_group.is_main:
            return
        tensors = {name: weight.detach().contiguous() for name, weight in self._weights.items()}
        self._write(self._best_path(step).name, tensors, {"step": str(step)})

    def restore(self, identity: Mapping[str, JsonValue]) -> TrainState | None:
        """Load the newest intact checkpoint; None if there is none.

        Raises `StoreError` if the checkpoints belong to another run, or none of them is intact.
        """
        # 1. The newest checkpoint whose files have the hashes of the manifest.
        entries = self._entries()
        newest_first = ({self.directory / name: sha for name, sha in e["files"].items()} for e in reversed(entries))
        intact = (f for f in newest_first if all(path.exists() and file_sha256(path) == sha for path, sha in f.items()))
        if (paths := next(intact, None)) is None:
            if entries:
                raise StoreError(
                    f"every checkpoint in {self.directory} is damaged: delete that directory and train again"
                )
            return None
        # 2. Every file: check the identity, then copy weights, averages and the moments that this process updates.
        owned_weights = {weight for group in self._optimizer.param_groups for weight in group["params"]}
        train_state = TrainState()
        for path in paths:
            with safe_open(str(path), framework="pt") as file, torch.no_grad():
                metadata = file.metadata()
                if "train_state" not in metadata:
                    raise StoreError(
                        f"{path} was written before 0.1.0: delete {self.directory} and train again; "
                        "docs/glossary.md lists what was renamed"
                    )
                train_state = TrainState(**json.loads(metadata["train_state"]))
                self._check_identity(train_state.identity, json.loads(json.dumps(identity)))
                for key in file.keys():  # noqa: SIM118
                    tensor_kind, _, name = key.partition("/")
                    weight = self._weights[name]
                    if tensor_kind in ("weight", "ema"):
                        (weight if tensor_kind == "weight" else self._ema_weights[name]).copy_(file.get_tensor(key))
                    elif weight in owned_weights:
                        # Fused AdamW keeps `step` on the device, too.
                        self._optimizer.state[weight][tensor_kind] = file.get_tensor(key).to(weight.device)
        return train_state

    def load_best(self, step: int) -> None:
        """Load the best weights, saved at `step`. Raises `StoreError` if they cannot be read."""
        path = self._best_path(step)
        try:
            with safe_open(str(path), framework="pt") as file, torch.no_grad():
                for name, weight in self._weights.items():
                    weight.copy_(file.get_tensor(name))
        except (OSError, SafetensorError) as error:
            raise StoreError(
                f"best weights {path} cannot be read ({error}): use the weights in last/, or delete "
                f"{self.directory} and train again"
            ) from error

    def _best_path(self, step: int) -> Path:
        return self.directory / f"best-{step:08d}.safetensors"

    def _check_identity(self, saved: Mapping[str, JsonValue], current: Mapping[str, JsonValue]) -> None:
        changed = [key for key in current if saved.get(key) != current[key]]
        differences = [f"{key} was {saved.get(key)}, is {current[key]}" for key in changed]
        if differences:
            raise StoreError(
                f"{self.directory} belongs to another run ({'; '.join(differences)}): use another --output or delete "
                "that directory"
            )

    def _file_names(self, step: int) -> list[str]:
        """One file per process."""
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
            raise StoreError(
                f"checkpoints in {self.directory} were written before 0.1.0: delete that directory and train again"
            )
        return entries
