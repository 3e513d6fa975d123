"""A student from a teacher: the whole encoder, some of the decoder's layers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from whisperstill.errors import SettingsError
from whisperstill.model.checkpoints import Checkpoint
from whisperstill.model.generation import remap_alignment_heads


def choose_layers(teacher_layers: int, count: int) -> tuple[int, ...]:
    """`count` layers of `teacher_layers`, as far apart as can be: 0, ..., last, rounded down.

    Source: Distil-Whisper (arXiv 2311.00430), section 3.1; 32 -> 2 gives (0, 31), 32 -> 4 gives (0, 10, 20, 31).
    A single layer, of which the paper says nothing, is the first: it is the one that reads the embeddings.
    Raises `SettingsError` when there are not so many layers.
    """
    if not 1 <= count <= teacher_layers:
        raise SettingsError(f"decoder_layers must be 1 to {teacher_layers} (the teacher's), got {count}")
    if count == 1:
        return (0,)
    return tuple(index * (teacher_layers - 1) // (count - 1) for index in range(count))


def check_layers(teacher_layers: int, layers: Sequence[int]) -> tuple[int, ...]:
    """An explicit list of layers, as a tuple. `SettingsError` unless ascending, without repeats and the teacher's."""
    if not layers:
        raise SettingsError("layers must name at least one decoder layer, got none")
    wrong = [layer for layer in layers if not 0 <= layer < teacher_layers]
    if wrong:
        raise SettingsError(
            f"layers must be 0 to {teacher_layers - 1} (the teacher has {teacher_layers}), got {wrong[0]}"
        )
    if list(layers) != sorted(set(layers)):
        raise SettingsError(f"layers must ascend without repeats, got {', '.join(map(str, layers))}")
    return tuple(layers)


def most_influential(influence: Sequence[float], count: int) -> tuple[int, ...]:
    """The first layer, which reads the embeddings, and those that change most of what they are handed.

    `influence` as in `distill.importance`. Raises `SettingsError` when there are not so many layers.
    """
    choose_layers(len(influence), count)
    others = sorted(range(1, len(influence)), key=lambda layer: (-influence[layer], layer))[: count - 1]
    return (0, *sorted(others))


def with_encoder_layers(checkpoint: Checkpoint, layers: Sequence[int]) -> Checkpoint:
    """The same with only these of its encoder layers, renumbered from 0; it is to be trained before it hears anything.

    Raises `SettingsError` unless they ascend without repeats and are there.
    """
    depth = checkpoint.dims.encoder_layers
    if not layers or list(layers) != sorted(set(layers)) or not 0 <= layers[0] <= layers[-1] < depth:
        raise SettingsError(f"encoder layers must ascend from 0 to {depth - 1} at most, got {list(layers)}")
    state = _renumbered(checkpoint.state, "encoder.layers.", layers)
    teacher = {
        "teacher": checkpoint.source,
        "teacher_sha256": checkpoint.sha256,
        "teacher_encoder_sha256": checkpoint.encoder_sha256,
        "teacher_embedding_sha256": checkpoint.embedding_sha256,
    }
    of_a_student = "teacher_sha256" in checkpoint.metadata
    metadata = {**(checkpoint.metadata if of_a_student else teacher), "encoder_layers": list(layers)}
    dims = replace(checkpoint.dims, encoder_layers=len(layers))
    shown = ",".join(map(str, layers))
    source = f"{checkpoint.source}, encoder layers {shown}"
    return Checkpoint(dims, state, checkpoint.generation, checkpoint.tokenizer_json, source, metadata)


def make_student(
    teacher: Checkpoint, layers: Sequence[int], language: str | None = None, *, merged: bool = False
) -> Checkpoint:
    """The teacher with only these decoder layers, renumbered from 0.

    Encoder, embeddings, positions and norms are the teacher's. `merged`: each layer has the mean weights of the
    teacher's layers from it up to the next one. Alignment heads follow their layers; `language` is what the student is
    used with when none is named (None: as the teacher). Nothing in the result shares memory with the teacher. Raises
    `SettingsError` for layers the teacher does not have.
    """
    kept = check_layers(teacher.dims.decoder_layers, layers)
    dims = replace(teacher.dims, decoder_layers=len(kept))
    state = _renumbered(teacher.state, "decoder.layers.", kept)
    if merged:
        for new, (first, following) in enumerate(zip(kept, (*kept[1:], teacher.dims.decoder_layers), strict=True)):
            for name in [name for name in state if name.startswith(f"decoder.layers.{new}.")]:
                inside = name.removeprefix(f"decoder.layers.{new}.")
                each = [teacher.state[f"decoder.layers.{layer}.{inside}"].float() for layer in range(first, following)]
                state[name] = torch.stack(each).mean(0).to(state[name].dtype)
    generation = replace(
        teacher.generation,
        alignment_heads=remap_alignment_heads(teacher.generation.alignment_heads, kept, dims),
        language=language or teacher.generation.language,
    )
    metadata = {
        "teacher": teacher.source,
        "teacher_sha256": teacher.sha256,
        "teacher_encoder_sha256": teacher.encoder_sha256,
        "teacher_embedding_sha256": teacher.embedding_sha256,
        "teacher_decoder_layers": teacher.dims.decoder_layers,
        "layers": list(kept),
    }
    if merged:
        metadata["merged"] = True
    shown = ",".join(map(str, kept))
    return Checkpoint(dims, state, generation, teacher.tokenizer_json, f"{teacher.source}, layers {shown}", metadata)


def _renumbered(state: Mapping[str, Tensor], prefix: str, kept: Sequence[int]) -> dict[str, Tensor]:
    """Copies of all tensors but those of layers that are not kept; kept ones are numbered from 0."""
    new_index = {old: new for new, old in enumerate(kept)}
    found = dict[str, Tensor]()
    for name, tensor in state.items():
        if name.startswith(prefix):
            old, _, inside = name.removeprefix(prefix).partition(".")
            if int(old) not in new_index:
                continue
            name = f"{prefix}{new_index[int(old)]}.{inside}"
        found[name] = tensor.detach().clone()
    return found
