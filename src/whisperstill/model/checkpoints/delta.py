"""Students without what they share with their teacher: a directory of Hugging Face's files, but the weights.

`delta.safetensors` holds the tensors that are not the teacher's, under transformers' names; `whisperstill.json` says
which are (the frozen encoder, the token embedding where it was frozen), whose they are, and what all together must
hash to. A student of large-v2 with a frozen encoder and embedding takes 0.2 GB instead of 3. The file has a name of its
own so that no other library takes it for a whole model.
"""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from whisperstill.atomic_io import atomic_write, atomic_write_path, file_sha256, remove_partial_files
from whisperstill.errors import CheckpointError, NotFoundError, SettingsError
from whisperstill.model.checkpoints.checkpoint import Checkpoint
from whisperstill.model.checkpoints.huggingface import (
    FORMAT_VERSION,
    MANIFEST_FILE,
    StateDictSource,
    check_format,
    read_huggingface,
)
from whisperstill.model.checkpoints.huggingface_writer import checkpoint_identity, config_files, to_huggingface

WEIGHTS_FILE = "delta.safetensors"
TEACHER_VARIABLE = "WHISPERSTILL_TEACHER"
"""Environment variable: where the teacher is, when it is not where the delta says."""


def write_delta(checkpoint: Checkpoint, teacher: Checkpoint, teacher_name: str, directory: Path) -> Path:
    """Write what `checkpoint` does not share with `teacher`, to be found by `teacher_name`. Gives `directory`.

    Raises `SettingsError` where they share nothing.
    """
    shared_names = [
        key
        for key, tensor in checkpoint.state.items()
        if key in teacher.state and torch.equal(tensor, teacher.state[key])
    ]
    if not shared_names:
        raise SettingsError(f"{checkpoint.source} shares no weights with {teacher.source}: name the teacher it is of")
    directory.mkdir(parents=True, exist_ok=True)
    remove_partial_files(directory)
    own_state = {key: tensor for key, tensor in checkpoint.state.items() if key not in set(shared_names)}
    with atomic_write_path(directory / WEIGHTS_FILE) as temporary:
        save_file(to_huggingface(own_state), temporary, metadata={"format": "pt"})
    for file_name, content in config_files(checkpoint).items():
        atomic_write(directory / file_name, content)
    manifest = {
        "format": FORMAT_VERSION,
        **checkpoint_identity(checkpoint),
        "encoder_sha256": checkpoint.encoder_sha256,
        "weights_file_sha256": file_sha256(directory / WEIGHTS_FILE),
        "delta": {"teacher": teacher_name, "teacher_sha256": teacher.sha256, "shared": shared_names},
    }
    atomic_write(directory / MANIFEST_FILE, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
    return directory


def read_delta(
    directory: Path, source: str, dtype: torch.dtype | None, load_teacher: Callable[[str | Path], Checkpoint]
) -> Checkpoint:
    """Put a delta and its teacher together; `load_teacher` finds a checkpoint in float32 by its name.

    Raises `NotFoundError` where the teacher is not found, `CheckpointError` where what is found is another one, or the
    two do not give the weights that were written.
    """
    manifest = _read_manifest(directory)
    delta, teacher_name = manifest["delta"], os.environ.get(TEACHER_VARIABLE) or manifest["delta"]["teacher"]
    try:
        teacher = load_teacher(teacher_name)
    except NotFoundError as error:
        raise NotFoundError(
            f"{source} holds only what its teacher {teacher_name} does not, which was not found:"
            f" say in {TEACHER_VARIABLE} where it is"
        ) from error
    if teacher.sha256 != delta["teacher_sha256"]:
        raise CheckpointError(
            f"{source} belongs to another teacher than {teacher.source}: say in {TEACHER_VARIABLE} where it is"
        )
    try:
        own_state = load_file(directory / WEIGHTS_FILE)
    except Exception as error:  # safetensors has several, all meaning this
        raise CheckpointError(f"{WEIGHTS_FILE} is truncated or damaged ({error}); fetch it again") from error
    shared_state = to_huggingface({key: teacher.state[key] for key in delta["shared"]})
    checkpoint = read_huggingface(
        directory, source, torch.float32, StateDictSource({**shared_state, **own_state}, WEIGHTS_FILE)
    )
    if checkpoint.sha256 != manifest["sha256"]:
        raise CheckpointError(
            f"{WEIGHTS_FILE} and {teacher.source} do not give the weights that were written; fetch it again"
        )
    if dtype in (None, torch.float32):
        return checkpoint
    return replace(checkpoint, state={key: tensor.to(dtype) for key, tensor in checkpoint.state.items()})


def _read_manifest(directory: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((directory / MANIFEST_FILE).read_text("utf-8"))
        (
            manifest["delta"]["teacher"],
            manifest["delta"]["teacher_sha256"],
            manifest["delta"]["shared"],
            manifest["sha256"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{WEIGHTS_FILE} needs the {MANIFEST_FILE} that was written with it; copy it, too"
        ) from error
    check_format(manifest, directory / MANIFEST_FILE)
    return manifest
