"""Names and shapes of the tensors of a Whisper network, as every reader returns them.

Whisper's key projection has no bias. Query, key and value are one linear layer here, so the fused bias has a key part,
which is zero. Any other value would have no effect either: a constant added to every key adds the same number to all
scores of a query, and softmax ignores it. So the key bias is not counted, not hashed and not saved.
"""

import re
from dataclasses import dataclass
from math import prod

from whisperstill.model.dims import Dims

_FUSED_BIAS = re.compile(r"\.(attention\.qkv|cross\.kv)\.bias$")


def key_bias_rows(name: str, width: int) -> slice | None:
    """Rows of the key in the fused bias `name`; None for every other tensor."""
    match = _FUSED_BIAS.search(name)
    if match is None:
        return None
    return slice(width, 2 * width) if match[1] == "attention.qkv" else slice(0, width)


def expected_shapes(dims: Dims) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor of a network of these sizes, in network order."""
    width, shapes = dims.width, dict[str, tuple[int, ...]]()

    def add_module(name: str, *weight_shape: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = weight_shape, weight_shape[:1]

    layer_modules = {
        "attention_norm": (width,),
        "attention.qkv": (3 * width, width),
        "attention.out": (width, width),
        "cross_norm": (width,),
        "cross.query": (width, width),
        "cross.kv": (2 * width, width),
        "cross.out": (width, width),
        "mlp_norm": (width,),
        "mlp.up": (4 * width, width),
        "mlp.down": (width, 4 * width),
    }
    add_module("encoder.conv1", width, dims.mels, 3)
    add_module("encoder.conv2", width, width, 3)
    shapes["encoder.positions"] = (dims.max_source_positions, width)
    shapes["decoder.embedding.weight"] = (dims.vocab_size, width)
    shapes["decoder.positions"] = (dims.max_target_positions, width)
    for stack, layers in (("encoder", dims.encoder_layers), ("decoder", dims.decoder_layers)):
        for index in range(layers):
            for module, weight_shape in layer_modules.items():
                if stack == "decoder" or not module.startswith("cross"):
                    add_module(f"{stack}.layers.{index}.{module}", *weight_shape)
        add_module(f"{stack}.norm", width)
    return shapes


@dataclass(frozen=True, slots=True)
class ParameterCounts:
    """Parameter counts. The token embedding is also the output layer and counted once."""

    encoder: int
    """Convolutions, positional embedding, layers and final norm."""
    decoder: int
    """Positional embedding, layers and final norm, without the token embedding."""
    embedding: int
    """Token embedding: vocab x width."""

    @property
    def total(self) -> int:
        return self.encoder + self.decoder + self.embedding


def count_parameters(dims: Dims) -> ParameterCounts:
    """Parameters of a network of these sizes, as published (without the key bias)."""
    counts = {"encoder": 0, "decoder": 0, "embedding": 0}
    for name, shape in expected_shapes(dims).items():
        part = "embedding" if name == "decoder.embedding.weight" else name.split(".")[0]
        counts[part] += prod(shape) - (dims.width if key_bias_rows(name, dims.width) else 0)
    return ParameterCounts(**counts)
