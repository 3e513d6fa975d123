"""Products of 8-bit integers on CPUs: weights rounded once per output channel, inputs anew for every product.

A step of decoding reads every weight once, so a quarter of the bytes is up to four times the speed, and for many rows
integer products are faster as well. What it costs is accuracy: about 1 % of a product's scale. For a draft that is
verified it costs nothing but some acceptance.

PyTorch's product takes one scale for all of its input, so that a row's result depends on the rows beside it. Where that
may not be, every row is scaled on its own (`per_row`): a row is then the same whoever shares its batch.
"""

import warnings
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from whisperstill.errors import SettingsError

Net = TypeVar("Net", bound=nn.Module)


def is_int8_supported() -> bool:
    """Whether this PyTorch has the kernels (x86 and ARM builds do)."""
    return any(engine in torch.backends.quantized.supported_engines for engine in ("x86", "fbgemm", "qnnpack"))


class Int8Linear(nn.Module):
    """`input @ weight.T + bias` with an 8-bit copy of the weight."""

    def __init__(
        self,
        weight: Float[Tensor, "outputs inputs"],
        bias: Float[Tensor, "outputs"] | None,
        per_row: bool = False,
    ) -> None:
        super().__init__()
        self._per_row = per_row
        self.num_bytes = weight.numel() + 8 * len(weight)
        """Held beside parameters and buffers: the weight, and per output its scale and bias in 32 bits."""
        self._separate_bias = None if bias is None or not per_row else bias.detach().float()
        float_weight = weight.detach().float()
        scale = (float_weight.abs().amax(1) / 127).clamp(min=1e-12)
        with warnings.catch_warnings():  # PyTorch announces that it will move these types elsewhere
            warnings.simplefilter("ignore")
            zero_points = torch.zeros(len(scale), dtype=torch.long)
            quantized_weight = torch.quantize_per_channel(float_weight, scale.double(), zero_points, 0, torch.qint8)
            packed_bias = None if bias is None or per_row else bias.float()
            self._packed_weight: Any = torch.ops.quantized.linear_prepack(quantized_weight, packed_bias)

    def forward(self, input: Float[Tensor, "*rows inputs"]) -> Float[Tensor, "*rows outputs"]:
        """The product, in the type of the input."""
        if not self._per_row:
            return self._quantized_linear(input.float()).to(input.dtype)
        rows = input.float().flatten(0, -2)
        scale = rows.abs().amax(1, keepdim=True).clamp(min=1e-12)
        # The last row holds 1 and -1, so that the scale of the whole is the same whatever the others hold.
        scaled = rows.new_zeros(len(rows) + 1, rows.shape[1])
        torch.div(rows, scale, out=scaled[:-1])
        scaled[-1, 0], scaled[-1, -1] = 1.0, -1.0
        product = self._quantized_linear(scaled)[:-1].mul_(scale)
        if self._separate_bias is not None:
            product += self._separate_bias
        return product.view(*input.shape[:-1], -1).to(input.dtype)

    def _quantized_linear(self, input: Float[Tensor, "*rows inputs"]) -> Float[Tensor, "*rows outputs"]:
        # Inputs of 7 bits: two products of 8 bits could overflow the 16-bit sums of AVX2.
        product: Tensor = torch.ops.quantized.linear_dynamic(input, self._packed_weight, reduce_range=True)
        return product


def to_int8(module: Net, per_row: bool = False) -> Net:
    """Replace all linear maps inside a module, which is changed and given back; `per_row` as in `Int8Linear`.

    Raises `SettingsError` where it is not on a CPU or PyTorch has no kernels for this one.
    """
    device = next(module.parameters()).device
    if device.type != "cpu" or not is_int8_supported():
        raise SettingsError(
            f"dtype int8 is for CPUs that PyTorch has kernels for, not for {device}: use float32 or bfloat16"
        )
    for name, submodule in list(module.named_modules()):
        if isinstance(submodule, nn.Linear):
            parent = module.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], Int8Linear(submodule.weight, submodule.bias, per_row))
        elif hasattr(submodule, "int8"):
            submodule.int8, submodule.per_row = True, per_row
    return module
