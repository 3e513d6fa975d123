"""Builds our state dict from the tensors of any format: translates names, checks shapes, fuses query, key and value.

All shapes are checked before the first weight is read.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from whisperstill.errors import CheckpointError
from whisperstill.model.checkpoints.shapes import expected_shapes
from whisperstill.model.dims import Dims
from whisperstill.records.json_value import JsonValue


def _position_names(stack: str) -> tuple[str, str, str]:
    return f"{stack}.embed_positions.weight", f"{stack}.positional_embedding", f"{stack}/position_encodings/encodings"


_STORED_NAMES = {
    "encoder.conv1": ("encoder.conv1", "encoder.conv1", "encoder/conv1"),
    "encoder.conv2": ("encoder.conv2", "encoder.conv2", "encoder/conv2"),
    "encoder.positions": _position_names("encoder"),
    "encoder.norm": ("encoder.layer_norm", "encoder.ln_post", "encoder/layer_norm"),
    "decoder.embedding": ("decoder.embed_tokens", "decoder.token_embedding", "decoder/embeddings"),
    "decoder.positions": _position_names("decoder"),
    "decoder.norm": ("decoder.layer_norm", "decoder.ln", "decoder/layer_norm"),
    "attention_norm": ("self_attn_layer_norm", "attn_ln", "self_attention/layer_norm"),
    "attention.qkv": ("self_attn.{}_proj", "attn.{}", "self_attention/linear_0"),
    "attention.out": ("self_attn.out_proj", "attn.out", "self_attention/linear_1"),
    "cross_norm": ("encoder_attn_layer_norm", "cross_attn_ln", "attention/layer_norm"),
    "cross.query": ("encoder_attn.q_proj", "cross_attn.query", "attention/linear_0"),
    "cross.kv": ("encoder_attn.{}_proj", "cross_attn.{}", "attention/linear_1"),
    "cross.out": ("encoder_attn.out_proj", "cross_attn.out", "attention/linear_2"),
    "mlp_norm": ("final_layer_norm", "mlp_ln", "ffn/layer_norm"),
    "mlp.up": ("fc1", "mlp.0", "ffn/linear_0"),
    "mlp.down": ("fc2", "mlp.2", "ffn/linear_1"),
}
"""Our module or positional embedding -> its name in transformers, openai/whisper, CTranslate2.

Those of a layer follow the layer's prefix. `{}` stands for the separate query, key and value.
"""
_DIMS_KEYS = {
    "mels": ("num_mel_bins", "n_mels"),
    "vocab_size": ("vocab_size", "n_vocab"),
    "width": ("d_model", "n_audio_state"),
    "encoder_heads": ("encoder_attention_heads", "n_audio_head"),
    "encoder_layers": ("encoder_layers", "n_audio_layer"),
    "decoder_heads": ("decoder_attention_heads", "n_text_head"),
    "decoder_layers": ("decoder_layers", "n_text_layer"),
    "max_source_positions": ("max_source_positions", "n_audio_ctx"),
    "max_target_positions": ("max_target_positions", "n_text_ctx"),
}
"""Our size -> its key in transformers, openai/whisper."""
if TYPE_CHECKING:
    TorchValue: TypeAlias = Tensor | int | Mapping[str, "TorchValue"]
else:  # checkers at runtime resolve no recursive alias
    TorchValue = Tensor | int | Mapping
"""What checkpoints of `torch.save` hold."""
_LAYER = re.compile(r"(encoder|decoder)\.layers\.(\d+)\.(.+)")


@dataclass(frozen=True)
class TensorSource:
    """Tensors of a checkpoint file or directory, by their stored names."""

    display_name: str
    """Name for error messages."""
    shapes: Mapping[str, tuple[int, ...]]
    load: Callable[[str], Tensor]
    """Reads one tensor."""


def state_dict_source(state: Mapping[str, TorchValue], display_name: str) -> TensorSource:
    """Tensors of a state dict in memory, in their stored dtypes; other values are left out."""
    tensors = {name.removeprefix("model."): value for name, value in state.items() if isinstance(value, Tensor)}
    return TensorSource(display_name, {name: tuple(x.shape) for name, x in tensors.items()}, tensors.__getitem__)


@dataclass(frozen=True)
class NameMapping:
    """Our names -> stored names of one format. Several stored tensors are stacked along the rows."""

    column: int
    """Column of the tables above."""
    layer_prefix: str
    projections: tuple[str, ...]
    """Query, key, value in the names of separate projections; the key then has no bias."""
    suffixes: Mapping[str, str]
    """`weight` or `bias` -> suffix of the name, separator included."""
    norm_suffixes: Mapping[str, str]
    ignored: re.Pattern[str]
    """Stored tensors that are not read."""

    def stored_names(self, name: str) -> tuple[str | None, ...]:
        """Stored tensors of our tensor `name`; None stands for the key's bias, which is zero and not stored."""
        if name in _STORED_NAMES:
            return (_STORED_NAMES[name][self.column],)
        module, _, kind = name.rpartition(".")
        match = _LAYER.fullmatch(module)
        prefix, submodule = (self.layer_prefix.format(match[1], match[2]), match[3]) if match else ("", module)
        stored_name = prefix + _STORED_NAMES[submodule][self.column]
        stored_name += (self.norm_suffixes if module.endswith("norm") else self.suffixes)[kind]
        if "{}" not in stored_name:
            return (stored_name,)
        _, key, _ = self.projections
        parts = self.projections[1:] if submodule == "cross.kv" else self.projections
        return tuple(None if (part, kind) == (key, "bias") else stored_name.format(part) for part in parts)

    def parse_dims(self, values: Mapping[str, TorchValue | JsonValue], display_name: str) -> Dims:
        """Sizes of a config. Raises `CheckpointError` that lists those missing or not integers."""
        keys = {field: names[self.column] for field, names in _DIMS_KEYS.items()}
        sizes = {field: size for field, key in keys.items() if type(size := values.get(key)) is int}
        if invalid := [key for field, key in keys.items() if field not in sizes]:
            problem = f"expected whole numbers for {', '.join(invalid)}; not a Whisper model"
            raise CheckpointError(f"{display_name}: {problem}")
        return Dims(**sizes)


_DOTTED = {"weight": ".weight", "bias": ".bias"}
HUGGINGFACE = NameMapping(0, "{}.layers.{}.", ("q", "k", "v"), _DOTTED, _DOTTED, re.compile(r"proj_out\.weight"))
OPENAI = NameMapping(1, "{}.blocks.{}.", ("query", "key", "value"), _DOTTED, _DOTTED, re.compile(".*mask.*"))
CTRANSLATE2 = NameMapping(
    column=2,
    layer_prefix="{}/layer_{}/",
    projections=(),
    suffixes={"weight": "/weight", "bias": "/bias"},
    norm_suffixes={"weight": "/gamma", "bias": "/beta"},
    ignored=re.compile(r".*_scale|decoder/projection/(weight|bias)|(encoder|decoder)/(pre|scale|num|alib|align).*"),
)


def split_state_dict(state: Mapping[str, Tensor], names: NameMapping) -> dict[str, Tensor]:
    """Our state dict under the names of another format, on the CPU: separate projections, no key bias."""
    stored = {}
    for name, tensor in state.items():
        stored_names = names.stored_names(name)
        for stored_name, part in zip(stored_names, tensor.detach().cpu().chunk(len(stored_names)), strict=True):
            if stored_name is not None:
                stored[stored_name] = part
    return stored


def assemble_state_dict(
    source: TensorSource, names: NameMapping, dims: Dims, dtype: torch.dtype | None
) -> dict[str, Tensor]:
    """Our state dict from `source`, as `dtype` (None: as stored).

    Raises `CheckpointError` before reading a weight if a tensor is missing, has another shape, or is not expected and
    ignored by `names`.
    """
    # 1. Check names and shapes.
    stored_shapes, wanted_shapes = source.shapes, expected_shapes(dims)
    stored_names = {name: names.stored_names(name) for name in wanted_shapes}
    problems, unexpected = list[str](), dict.fromkeys(stored_shapes)
    for name, parts in stored_names.items():
        rows, *other_sizes = wanted_shapes[name]
        shape = (rows // len(parts), *other_sizes)
        for part in filter(None, parts):
            unexpected.pop(part, None)
            if part not in stored_shapes:
                problems.append(f"{part} is missing (expected shape {list(shape)})")
            elif stored_shapes[part] != shape:
                problems.append(f"{part} has shape {list(stored_shapes[part])}, expected {list(shape)}")
    problems += [f"{name} is not expected" for name in unexpected if not names.ignored.fullmatch(name)]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CheckpointError(
            f"{source.display_name} does not match the sizes in its config: {'; '.join(problems[:3])}{more};"
            " download it again or correct its config.json"
        )
    # 2. Load and fuse.
    state = {}
    for name, parts in stored_names.items():
        tensors = [None if part is None else source.load(part) for part in parts]
        stored_tensor = next(tensor for tensor in tensors if tensor is not None)
        fused = torch.cat([torch.zeros_like(stored_tensor) if tensor is None else tensor for tensor in tensors])
        state[name] = fused.to(dtype or fused.dtype)
    return state
