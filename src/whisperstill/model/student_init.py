"""Init student: the teacher's encoder and a subset of its decoder layers, copied (`init_student`)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from whisperstill.errors import SettingsError
from whisperstill.model.checkpoints import Checkpoint
from whisperstill.model.generation_config import remap_alignment_heads
from whisperstill.records.json_value import JsonObject


def select_spaced_layers(teacher_layers: int, count: int) -> tuple[int, ...]:
    """`count` of `teacher_layers` layers, maximally spaced from first to last, rounded down.

    Distil-Whisper (arXiv 2311.00430), section 3.1: 32 -> 2 gives (0, 31), 32 -> 4 gives (0, 10, 20, 31). A single
    layer, not in the paper, is the first, whose input is the embeddings. Raises `SettingsError` for too many layers.
    """
    if not 1 <= count <= teacher_layers:
        raise SettingsError(f"decoder_layers must be 1 to {teacher_layers} (the teacher's), got {count}")
    if count == 1:
        return (0,)
    return tuple(index * (teacher_layers - 1) // (count - 1) for index in range(count))


def check_layers(teacher_layers: int, layers: Sequence[int]) -> tuple[int, ...]:
    """Validated layer indices. Raises `SettingsError` unless they are the teacher's, ascending and without repeats."""
    if not layers:
        raise SettingsError("layers must contain at least one decoder layer, got none")
    invalid = [layer for layer in layers if not 0 <= layer < teacher_layers]
    if invalid:
        raise SettingsError(f"layers must be 0 to {teacher_layers - 1} (the teacher's), got {invalid[0]}")
    if list(layers) != sorted(set(layers)):
        raise SettingsError(f"layers must ascend without repeats, got {', '.join(map(str, layers))}")
    return tuple(layers)


def select_important_layers(importance: Sequence[float], count: int) -> tuple[int, ...]:
    """The first layer, whose input is the embeddings, and the `count - 1` most important others.

    `importance` is that of `distill.layer_importance`. Raises `SettingsError` for too many layers.
    """
    select_spaced_layers(len(importance), count)
    most_important = sorted(range(1, len(importance)), key=lambda layer: (-importance[layer], layer))[: count - 1]
    return (0, *sorted(most_important))


def with_encoder_layers(checkpoint: Checkpoint, layers: Sequence[int]) -> Checkpoint:
    """Checkpoint with only these encoder layers, renumbered from 0. It has to be trained before use.

    Raises `SettingsError` unless they are the checkpoint's, ascending and without repeats.
    """
    num_layers = checkpoint.dims.encoder_layers
    if not layers or list(layers) != sorted(set(layers)) or not 0 <= layers[0] <= layers[-1] < num_layers:
        raise SettingsError(f"encoder layers must ascend from 0 to {num_layers - 1} at most, got {list(layers)}")
    state = _renumber_layers(checkpoint.state, "encoder.layers.", layers)
    origin = checkpoint.metadata if "teacher_sha256" in checkpoint.metadata else _teacher_metadata(checkpoint)
    metadata = {**origin, "encoder_layers": list(layers)}
    dims = replace(checkpoint.dims, encoder_layers=len(layers))
    source = f"{checkpoint.source}, encoder layers {','.join(map(str, layers))}"
    return Checkpoint(dims, state, checkpoint.generation_config, checkpoint.tokenizer_json, source, metadata)


def init_student(teacher: Checkpoint, layers: Sequence[int], language: str | None = None) -> Checkpoint:
    """The teacher with only these decoder layers, renumbered from 0.

    Encoder, embeddings, positions and norms are the teacher's, copied. Alignment heads follow their layers; `language`
    is the student's default language (None: the teacher's). Raises `SettingsError` for layers the teacher does not
    have.
    """
    kept_layers = check_layers(teacher.dims.decoder_layers, layers)
    dims = replace(teacher.dims, decoder_layers=len(kept_layers))
    state = _renumber_layers(teacher.state, "decoder.layers.", kept_layers)
    generation_config = replace(
        teacher.generation_config,
        alignment_heads=remap_alignment_heads(teacher.generation_config.alignment_heads, kept_layers, dims),
        language=language or teacher.generation_config.language,
    )
    metadata = {
        **_teacher_metadata(teacher),
        "teacher_decoder_layers": teacher.dims.decoder_layers,
        "layers": list(kept_layers),
    }
    source = f"{teacher.source}, layers {','.join(map(str, kept_layers))}"
    return Checkpoint(dims, state, generation_config, teacher.tokenizer_json, source, metadata)


def _teacher_metadata(teacher: Checkpoint) -> JsonObject:
    return {
        "teacher": teacher.source,
        "teacher_sha256": teacher.sha256,
        "teacher_encoder_sha256": teacher.encoder_sha256,
        "teacher_embedding_sha256": teacher.embedding_sha256,
    }


def _renumber_layers(state: Mapping[str, Tensor], prefix: str, kept_layers: Sequence[int]) -> dict[str, Tensor]:
    """Copies of all tensors, with kept layers renumbered from 0 and other layers left out."""
    new_index = {teacher_layer: student_layer for student_layer, teacher_layer in enumerate(kept_layers)}
    renumbered = dict[str, Tensor]()
    for name, tensor in state.items():
        if name.startswith(prefix):
            layer, _, parameter_name = name.removeprefix(prefix).partition(".")
            if int(layer) not in new_index:
                continue
            name = f"{prefix}{new_index[int(layer)]}.{parameter_name}"
        renumbered[name] = tensor.detach().clone()
    return renumbered
