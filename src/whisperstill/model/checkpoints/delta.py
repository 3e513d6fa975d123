"""Delta checkpoints: a student without the weights it shares with its teacher.

`delta.safetensors` holds the tensors that differ from the teacher's, under transformers' names. `whisperstill.json`
names the shared tensors (the frozen encoder, a frozen token embedding), the teacher, and the hash of the complete
weights. The other files are those of a Hugging Face directory. A student of large-v2 with frozen encoder and embedding
takes 0.2 GB instead of 3. The weights file has its own name so that other libraries do not read it as a complete model.
"""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from whisperstill.atomic_io import atomic_write, file_sha256, remove_partial_files
from whisperstill.errors import CheckpointError, NotFoundError, SettingsError
from whisperstill.model.checkpoints.assemble import state_dict_source
from whisperstill.model.checkpoints.checkpoint import Checkpoint
from whisperstill.model.checkpoints.huggingface import (
    FORMAT_VERSION,
    MANIFEST_FILE,
    check_format,
    load_safetensors,
    read_huggingface,
)
from whisperstill.model.checkpoints.huggingface_writer import (
    checkpoint_identity,
    config_files,
    to_bytes,
    to_huggingface,
    write_weights,
)
from whisperstill.records.serialization import from_dict

WEIGHTS_FILE = "delta.safetensors"
TEACHER_VARIABLE = "WHISPERSTILL_TEACHER"
"""Environment variable with the teacher's path, if it is not at the path or name stored in the delta."""


@dataclass(frozen=True)
class _Delta:
    teacher: str
    teacher_sha256: str
    shared: tuple[str, ...]
    """Our names of the shared tensors."""


@dataclass(frozen=True)
class _Manifest:
    """What is read of the manifest of a delta."""

    sha256: str
    """Hash of the complete weights."""
    delta: _Delta


def write_delta(checkpoint: Checkpoint, teacher: Checkpoint, teacher_name: str, directory: Path) -> Path:
    """Writes the weights that `checkpoint` does not share with `teacher`, and returns `directory`.

    Readers load the teacher as `teacher_name`. Raises `SettingsError` if the two share no weights.
    """
    common_names = [name for name in checkpoint.state if name in teacher.state]
    shared_names = [name for name in common_names if torch.equal(checkpoint.state[name], teacher.state[name])]
    if not shared_names:
        raise SettingsError(f"{checkpoint.source} shares no weights with {teacher.source}: name the student's teacher")
    directory.mkdir(parents=True, exist_ok=True)
    remove_partial_files(directory)
    own_state = {key: tensor for key, tensor in checkpoint.state.items() if key not in set(shared_names)}
    write_weights(own_state, directory / WEIGHTS_FILE)
    for file_name, content in config_files(checkpoint).items():
        atomic_write(directory / file_name, content)
    manifest = {
        "format": FORMAT_VERSION,
        **checkpoint_identity(checkpoint),
        "encoder_sha256": checkpoint.encoder_sha256,
        "weights_file_sha256": file_sha256(directory / WEIGHTS_FILE),
        "delta": asdict(_Delta(teacher_name, teacher.sha256, tuple(shared_names))),
    }
    atomic_write(directory / MANIFEST_FILE, to_bytes(manifest))
    return directory


def read_delta(
    directory: Path, source: str, dtype: torch.dtype | None, load_teacher: Callable[[str | Path], Checkpoint]
) -> Checkpoint:
    """Reads a delta and its teacher into one checkpoint; `load_teacher` loads a float32 checkpoint by name.

    Raises `NotFoundError` if the teacher is not found, `CheckpointError` if it is another one or the combined weights
    have another hash than those written.
    """
    manifest = _read_manifest(directory)
    delta, teacher_name = manifest.delta, os.environ.get(TEACHER_VARIABLE) or manifest.delta.teacher
    try:
        teacher = load_teacher(teacher_name)
    except NotFoundError as error:
        raise NotFoundError(
            f"{source} is a delta, and its teacher {teacher_name} was not found; set {TEACHER_VARIABLE} to its path"
        ) from error
    if teacher.sha256 != delta.teacher_sha256:
        raise CheckpointError(f"{source} has another teacher than {teacher.source}; set {TEACHER_VARIABLE} to its path")
    own_state = load_safetensors(directory / WEIGHTS_FILE)
    shared_state = to_huggingface({key: teacher.state[key] for key in delta.shared})
    weights = state_dict_source({**shared_state, **own_state}, WEIGHTS_FILE)
    checkpoint = read_huggingface(directory, source, torch.float32, weights)
    if checkpoint.sha256 != manifest.sha256:
        raise CheckpointError(
            f"{WEIGHTS_FILE} and {teacher.source} do not combine to the weights that were written; download it again"
        )
    if dtype in (None, torch.float32):
        return checkpoint
    return replace(checkpoint, state={key: tensor.to(dtype) for key, tensor in checkpoint.state.items()})


def _read_manifest(directory: Path) -> _Manifest:
    try:
        content = json.loads((directory / MANIFEST_FILE).read_text("utf-8"))
        manifest = from_dict(_Manifest, content)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{WEIGHTS_FILE} needs the {MANIFEST_FILE} written with it; copy both") from error
    check_format(content, directory / MANIFEST_FILE)
    return manifest
