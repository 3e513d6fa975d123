"""Builds our state dict from the tensors of any format: translates names, checks shapes, fuses query, key and value.

A format provides a `NameMapping` (the stored tensors of each of our tensors) and a `TensorSource` (shapes first, then
one tensor at a time). All shapes are checked before the first weight is read.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from whisperstill.errors import CheckpointError
from whisperstill.model.checkpoints.shapes import expected_shapes
from whisperstill.model.dims import Dims
from whisperstill.records.json_value import JsonObject

_LAYER = re.compile(r"(encoder|decoder)\.layers\.(\d+)\.(.+)")


@runtime_checkable
class TensorSource(Protocol):
    """Tensors of a checkpoint file or directory, by their stored names."""

    @property
    def display_name(self) -> str:
        """Name for error messages."""

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Stored name -> shape of every tensor."""

    def load(self, name: str) -> Tensor:
        """One tensor."""


@dataclass(frozen=True)
class NameMapping:
    """Our names -> stored names. Several stored tensors are stacked along the rows."""

    top_level: Mapping[str, str]
    """Our names outside the layers -> stored names, without `.weight`/`.bias` for modules."""
    per_layer: Mapping[str, tuple[str, ...]]
    """Our names within a layer -> stored names; separate query, key, value in this order."""
    layer_prefix: Callable[[str, int], str]
    """(`encoder` or `decoder`, index) -> prefix of the names of a layer."""
    parameter_suffix: Callable[[str, str], str]
    """(our module, `weight` or `bias`) -> suffix of the name, separator included."""
    separate_qkv: bool = True
    """Whether query, key and value are stored separately; the key then has no bias."""

    def stored_names(self, name: str) -> tuple[str | None, ...]:
        """Stored tensors of our tensor `name`; None stands for the key's bias, which is zero and not stored."""
        if name in self.top_level:
            return (self.top_level[name],)
        module, _, kind = name.rpartition(".")
        match = _LAYER.fullmatch(module)
        if match is None:
            return (self.top_level[module] + self.parameter_suffix(module, kind),)
        stack, index, submodule = match[1], int(match[2]), match[3]
        prefix, suffix = self.layer_prefix(stack, index), self.parameter_suffix(module, kind)
        biasless_part = -1
        if self.separate_qkv and kind == "bias":
            biasless_part = {"attention.qkv": 1, "cross.kv": 0}.get(submodule, -1)
        return tuple(
            None if part_index == biasless_part else prefix + part + suffix
            for part_index, part in enumerate(self.per_layer[submodule])
        )


def assemble_state_dict(
    source: TensorSource,
    name_mapping: NameMapping,
    dims: Dims,
    *,
    dtype: torch.dtype | None,
    ignore: Callable[[str], bool],
) -> dict[str, Tensor]:
    """Our state dict from `source`, as `dtype` (None: as stored).

    Raises `CheckpointError` before reading a weight if a tensor is missing, has another shape, or is not expected and
    not in `ignore`.
    """
    stored_shapes, wanted_shapes = source.shapes(), expected_shapes(dims)
    stored_names = {name: name_mapping.stored_names(name) for name in wanted_shapes}
    _check_shapes(source.display_name, stored_shapes, wanted_shapes, stored_names, ignore)
    state = {}
    for name, parts in stored_names.items():
        tensors = [None if part is None else source.load(part) for part in parts]
        stored_tensor = next(tensor for tensor in tensors if tensor is not None)
        fused = torch.cat([torch.zeros_like(stored_tensor) if tensor is None else tensor for tensor in tensors])
        state[name] = fused.to(dtype or fused.dtype)
    return state


def _check_shapes(
    display_name: str,
    stored_shapes: Mapping[str, tuple[int, ...]],
    wanted_shapes: Mapping[str, tuple[int, ...]],
    stored_names: Mapping[str, tuple[str | None, ...]],
    ignore: Callable[[str], bool],
) -> None:
    problems, used = list[str](), set[str]()
    for name, parts in stored_names.items():
        rows, *other_sizes = wanted_shapes[name]
        shape = (rows // len(parts), *other_sizes)
        for part in filter(None, parts):
            used.add(part)
            if part not in stored_shapes:
                problems.append(f"{part} is missing (expected shape {list(shape)})")
            elif stored_shapes[part] != shape:
                problems.append(f"{part} has shape {list(stored_shapes[part])}, expected {list(shape)}")
    problems += [f"{name} is not expected" for name in stored_shapes if name not in used and not ignore(name)]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CheckpointError(
            f"{display_name} does not match the sizes in its config: {'; '.join(problems[:3])}{more};"
            " download it again or correct its config.json"
        )


def parse_dims(values: JsonObject, keys: Mapping[str, str], display_name: str) -> Dims:
    """Sizes by the stored key of each field. Raises `CheckpointError` that lists those missing or not integers."""
    invalid = [key for key in keys.values() if type(values.get(key)) is not int]
    if invalid:
        raise CheckpointError(f"{display_name}: expected whole numbers for {', '.join(invalid)}; not a Whisper model")
    return Dims(**{field: values[key] for field, key in keys.items()})
