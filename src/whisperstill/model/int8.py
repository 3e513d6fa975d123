"""Products of 8-bit integers on CPUs: weights rounded once per output channel, inputs anew for every product.

A step of decoding reads every weight once, so a quarter of the bytes is up to four times the speed, and for many rows
integer products are faster as well. What it costs is accuracy: about 1 % of a product's scale. For a draft that is
verified it costs nothing but some acceptance.
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

    def __init__(self, weight: Float[Tensor, "outputs inputs"], bias: Float[Tensor, "outputs"] | None) -> None:
        super().__init__()
        whole = weight.detach().float()
        scale = (whole.abs().amax(1) / 127).clamp(min=1e-12)
        with warnings.catch_warnings():  # PyTorch announces that it will move these types elsewhere
            warnings.simplefilter("ignore")
            zero = torch.zeros(len(scale), dtype=torch.long)
            rounded = torch.quantize_per_channel(whole, scale.double(), zero, 0, torch.qint8)
            self._packed: Any = torch.ops.quantized.linear_prepack(rounded, None if bias is None else bias.float())

    def forward(self, input: Float[Tensor, "*rows inputs"]) -> Float[Tensor, "*rows outputs"]:
        """The product, in the type of the input."""
        # Inputs of 7 bits: two products of 8 bits could overflow the 16-bit sums of AVX2.
        product: Tensor = torch.ops.quantized.linear_dynamic(input.float(), self._packed, reduce_range=True)
        return product.to(input.dtype)


def to_int8(module: Net) -> Net:
    """Replace all linear maps inside a module, which is changed and given back.

    Raises `SettingsError` where it is not on a CPU or PyTorch has no kernels for this one.
    """
    device = next(module.parameters()).device
    if device.type != "cpu" or not int8_is_there():
        raise SettingsError(f"dtype int8 is for CPUs that PyTorch has kernels for, not for {device}: use fp32 or bf16")
    for name, inside in list(module.named_modules()):
        if isinstance(inside, nn.Linear):
            parent = module.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], Int8Linear(inside.weight, inside.bias))
        elif hasattr(inside, "int8"):
            inside.int8 = True
    return module
