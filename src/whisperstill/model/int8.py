"""Products of 8-bit integers on CPUs: weights rounded once per output channel, inputs anew for every product.

A step of decoding reads every weight once, so a quarter of the bytes is up to four times the speed, and for many rows
integer products are faster as well. What it costs is accuracy: about 1 % of a product's scale. For a draft that is
verified it costs nothing but some acceptance.

PyTorch's product takes one scale for all of its input, so that a row's result depends on the rows beside it. Where that
may not be, every row is scaled on its own (`by_row`): a row is then the same whoever shares its batch.
"""

import warnings
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from whisperstill.errors import SettingsError

Net = TypeVar("Net", bound=nn.Module)


def int8_is_there() -> bool:
    """Whether this PyTorch has the kernels (x86 and ARM builds do)."""
    return any(engine in torch.backends.quantized.supported_engines for engine in ("x86", "fbgemm", "qnnpack"))


class Int8Linear(nn.Module):
    """`input @ weight.T + bias` with an 8-bit copy of the weight."""

    def __init__(
        self,
        weight: Float[Tensor, "outputs inputs"],
        bias: Float[Tensor, "outputs"] | None,
        by_row: bool = False,
    ) -> None:
        super().__init__()
        self._by_row = by_row
        self.bytes = weight.numel() + 8 * len(weight)
        """Held beside parameters and buffers: the weight, and per output its scale and bias in 32 bits."""
        self._bias = None if bias is None or not by_row else bias.detach().float()
        whole = weight.detach().float()
        scale = (whole.abs().amax(1) / 127).clamp(min=1e-12)
        with warnings.catch_warnings():  # PyTorch announces that it will move these types elsewhere
            warnings.simplefilter("ignore")
            zero = torch.zeros(len(scale), dtype=torch.long)
            rounded = torch.quantize_per_channel(whole, scale.double(), zero, 0, torch.qint8)
            inside = None if bias is None or by_row else bias.float()
            self._packed: Any = torch.ops.quantized.linear_prepack(rounded, inside)

    def forward(self, input: Float[Tensor, "*rows inputs"]) -> Float[Tensor, "*rows outputs"]:
        """The product, in the type of the input."""
        if not self._by_row:
            return self._product(input.float()).to(input.dtype)
        rows = input.float().flatten(0, -2)
        scale = rows.abs().amax(1, keepdim=True).clamp(min=1e-12)
        # The last row holds 1 and -1, so that the scale of the whole is the same whatever the others hold.
        scaled = rows.new_zeros(len(rows) + 1, rows.shape[1])
        torch.div(rows, scale, out=scaled[:-1])
        scaled[-1, 0], scaled[-1, -1] = 1.0, -1.0
        product = self._product(scaled)[:-1].mul_(scale)
        if self._bias is not None:
            product += self._bias
        return product.view(*input.shape[:-1], -1).to(input.dtype)

    def _product(self, input: Float[Tensor, "*rows inputs"]) -> Float[Tensor, "*rows outputs"]:
        # Inputs of 7 bits: two products of 8 bits could overflow the 16-bit sums of AVX2.
        product: Tensor = torch.ops.quantized.linear_dynamic(input, self._packed, reduce_range=True)
        return product


def to_int8(module: Net, by_row: bool = False) -> Net:
    """Replace all linear maps inside a module, which is changed and given back; `by_row` as in `Int8Linear`.

    Raises `SettingsError` where it is not on a CPU or PyTorch has no kernels for this one.
    """
    device = next(module.parameters()).device
    if device.type != "cpu" or not int8_is_there():
        raise SettingsError(f"dtype int8 is for CPUs that PyTorch has kernels for, not for {device}: use fp32 or bf16")
    for name, inside in list(module.named_modules()):
        if isinstance(inside, nn.Linear):
            parent = module.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], Int8Linear(inside.weight, inside.bias, by_row))
        elif hasattr(inside, "int8"):
            inside.int8, inside.by_row = True, by_row
    return module
