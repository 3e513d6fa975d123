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

from whisperstill.errors import CheckpointError, NotFoundError, SettingsError
from whisperstill.files import file_sha256, remove_left_over, whole, write_whole
from whisperstill.model.checkpoints.checkpoint import Checkpoint
from whisperstill.model.checkpoints.huggingface import MANIFEST, StateDict, read_huggingface
from whisperstill.model.checkpoints.huggingface_writer import identity, settings_files, to_huggingface

WEIGHTS = "delta.safetensors"
TEACHER = "WHISPERSTILL_TEACHER"
"""Environment variable: where the teacher is, when it is not where the delta says."""


def write_delta(checkpoint: Checkpoint, teacher: Checkpoint, name: str, directory: Path) -> Path:
    """Write what `checkpoint` does not share with `teacher`, whose `name` is how it is to be found. Gives `directory`.

    Raises `SettingsError` where they share nothing.
    """
    shared = [
        key
        for key, tensor in checkpoint.state.items()
        if key in teacher.state and torch.equal(tensor, teacher.state[key])
    ]
    if not shared:
        raise SettingsError(f"{checkpoint.source} shares no weights with {teacher.source}: name the teacher it is of")
    directory.mkdir(parents=True, exist_ok=True)
    remove_left_over(directory)
    own = {key: tensor for key, tensor in checkpoint.state.items() if key not in set(shared)}
    with whole(directory / WEIGHTS) as temporary:
        save_file(to_huggingface(own), temporary, metadata={"format": "pt"})
    for file, content in settings_files(checkpoint).items():
        write_whole(directory / file, content)
    manifest = {
        "format": 1,
        **identity(checkpoint),
        "encoder_sha256": checkpoint.encoder_sha256,
        "weights_file_sha256": file_sha256(directory / WEIGHTS),
        "delta": {"teacher": name, "teacher_sha256": teacher.sha256, "shared": shared},
    }
    write_whole(directory / MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
    return directory


def read_delta(
    directory: Path, source: str, dtype: torch.dtype | None, load: Callable[[str | Path], Checkpoint]
) -> Checkpoint:
    """Put a delta and its teacher together; `load` finds a checkpoint in float32 by its name.

    Raises `NotFoundError` where the teacher is not found, `CheckpointError` where what is found is another one, or the
    two do not give the weights that were written.
    """
    manifest = _manifest(directory)
    told, name = manifest["delta"], os.environ.get(TEACHER) or manifest["delta"]["teacher"]
    try:
        teacher = load(name)
    except NotFoundError as error:
        raise NotFoundError(
            f"{source} holds only what its teacher {name} does not, which was not found: say in {TEACHER} where it is"
        ) from error
    if teacher.sha256 != told["teacher_sha256"]:
        raise CheckpointError(
            f"{source} belongs to another teacher than {teacher.source}: say in {TEACHER} where it is"
        )
    try:
        own = load_file(directory / WEIGHTS)
    except Exception as error:  # safetensors has several, all meaning this
        raise CheckpointError(f"{WEIGHTS} is truncated or damaged ({error}); fetch it again") from error
    shared = to_huggingface({key: teacher.state[key] for key in told["shared"]})
    checkpoint = read_huggingface(directory, source, torch.float32, StateDict({**shared, **own}, WEIGHTS))
    if checkpoint.sha256 != manifest["sha256"]:
        raise CheckpointError(
            f"{WEIGHTS} and {teacher.source} do not give the weights that were written; fetch it again"
        )
    if dtype in (None, torch.float32):
        return checkpoint
    return replace(checkpoint, state={key: tensor.to(dtype) for key, tensor in checkpoint.state.items()})


def _manifest(directory: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((directory / MANIFEST).read_text("utf-8"))
        (
            manifest["delta"]["teacher"],
            manifest["delta"]["teacher_sha256"],
            manifest["delta"]["shared"],
            manifest["sha256"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{WEIGHTS} needs the {MANIFEST} that was written with it; copy it, too") from error
    return manifest
