"""From a file's tensors to ours: names translated, shapes checked, projections fused. One way for all formats.

A format describes itself by a `Naming` (which of its tensors make up one of ours) and a `Source` (shapes without
reading, then one tensor at a time). All shapes are checked before the first weight is read.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from whisperstill.errors import CheckpointError
from whisperstill.model.checkpoints.shapes import expected_shapes
from whisperstill.model.dims import Dims

_LAYER = re.compile(r"(encoder|decoder)\.layers\.(\d+)\.(.+)")


@runtime_checkable
class Source(Protocol):
    """Tensors of one checkpoint file or directory, by the names that stand there."""

    @property
    def label(self) -> str:
        """What to call it in an error."""

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Every tensor's name and shape."""

    def load(self, name: str) -> Tensor:
        """One tensor."""


@dataclass(frozen=True)
class Naming:
    """How a format calls our tensors. Values are one name, or several that are stacked along the rows."""

    top: Mapping[str, str]
    """Ours outside of the layers -> theirs, without `.weight`/`.bias` for modules."""
    layer: Mapping[str, tuple[str, ...]]
    """Ours inside a layer -> theirs; query, key, value in this order where they are apart."""
    prefix: Callable[[str, int], str]
    """(`encoder` or `decoder`, index) -> beginning of the names of a layer."""
    parameter: Callable[[str, str], str]
    """(our module, `weight` or `bias`) -> end of the name, separator included."""
    keys_apart: bool = True
    """Whether query, key and value are separate; then the key has no bias."""

    def pieces(self, name: str) -> tuple[str | None, ...]:
        """Their tensors that make up ours; None stands for the key's bias, which is zero and not stored."""
        if name in self.top:
            return (self.top[name],)
        module, _, kind = name.rpartition(".")
        match = _LAYER.fullmatch(module)
        if match is None:
            return (self.top[module] + self.parameter(module, kind),)
        half, index, inside = match[1], int(match[2]), match[3]
        start, end = self.prefix(half, index), self.parameter(module, kind)
        keyless = -1
        if self.keys_apart and kind == "bias":
            keyless = {"attention.qkv": 1, "cross.kv": 0}.get(inside, -1)
        return tuple(None if at == keyless else start + part + end for at, part in enumerate(self.layer[inside]))


def assemble(
    source: Source, naming: Naming, dims: Dims, *, dtype: torch.dtype | None, ignore: Callable[[str], bool]
) -> dict[str, Tensor]:
    """Our state dict from `source`. `dtype` None keeps the stored one.

    Raises `CheckpointError` before a weight is read when a tensor is missing, has another shape, or is one too many
    (`ignore` says which of those are harmless).
    """
    found, wanted = source.shapes(), expected_shapes(dims)
    plan = {name: naming.pieces(name) for name in wanted}
    _check(source.label, found, wanted, plan, ignore)
    state = {}
    for name, pieces in plan.items():
        tensors = [None if piece is None else source.load(piece) for piece in pieces]
        known = next(tensor for tensor in tensors if tensor is not None)
        whole = torch.cat([torch.zeros_like(known) if tensor is None else tensor for tensor in tensors])
        state[name] = whole.to(dtype or whole.dtype)
    return state


def _check(
    label: str,
    found: Mapping[str, tuple[int, ...]],
    wanted: Mapping[str, tuple[int, ...]],
    plan: Mapping[str, tuple[str | None, ...]],
    ignore: Callable[[str], bool],
) -> None:
    problems, used = list[str](), set[str]()
    for name, pieces in plan.items():
        rows, *rest = wanted[name]
        shape = (rows // len(pieces), *rest)
        for piece in filter(None, pieces):
            used.add(piece)
            if piece not in found:
                problems.append(f"{piece} is missing (expected shape {list(shape)})")
            elif found[piece] != shape:
                problems.append(f"{piece} has shape {list(found[piece])}, expected {list(shape)}")
    problems += [f"{name} is not expected" for name in found if name not in used and not ignore(name)]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CheckpointError(
            f"{label} does not hold a Whisper of the sizes it states: {'; '.join(problems[:3])}{more};"
            " fetch it again or mend its config.json"
        )


def require(values: Mapping[str, object], keys: Collection[str], label: str) -> dict[str, int]:
    """The integers under `keys`; `CheckpointError` naming those that are missing or no integers."""
    wrong = [key for key in keys if not isinstance(values.get(key), int) or isinstance(values.get(key), bool)]
    if wrong:
        raise CheckpointError(f"{label}: expected whole numbers for {', '.join(wrong)}; this is no Whisper's")
    return {key: int(str(values[key])) for key in keys}
