"""Linear maps of a few rows on a CPU.

BLAS libraries block for tall left factors: a float32 product of few rows with a weight costs up to three times that of
one row, though it reads the same weight. The weight times the rows costs little more than one row: what makes it worth
while to verify a block of tokens. A single row oneDNN multiplies fastest, and long weights up to twice as fast as BLAS.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

MAX_TRANSPOSED_ROWS = 64
"""From 2 to this many rows the weight is the left factor."""


def _find_onednn_linear() -> Any:
    """oneDNN's product as PyTorch's own compiler calls it; None in a build without."""
    try:
        return torch.ops.mkldnn._linear_pointwise if torch.backends.mkldnn.is_available() else None  # type: ignore[no-untyped-call]
    except AttributeError:
        return None


_onednn_op = _find_onednn_linear()


def onednn_linear(
    input: Float[Tensor, "*rows inputs"], weight: Float[Tensor, "outputs inputs"], bias: Float[Tensor, "outputs"] | None
) -> Float[Tensor, "*rows outputs"]:
    """`input @ weight.T + bias` by oneDNN where PyTorch has it. Float32 on a CPU, without gradients."""
    if _onednn_op is None:
        return F.linear(input, weight, bias)
    product: Tensor = _onednn_op(input, weight, bias, "none", [], "")
    return product


def linear(
    input: Float[Tensor, "*rows inputs"], weight: Float[Tensor, "outputs inputs"], bias: Float[Tensor, "outputs"]
) -> Float[Tensor, "*rows outputs"]:
    """`input @ weight.T + bias`."""
    rows = input.numel() // input.shape[-1]
    transposed = 1 <= rows <= MAX_TRANSPOSED_ROWS and input.dtype == torch.float32 and input.device.type == "cpu"
    if not transposed or torch.is_grad_enabled():
        return F.linear(input, weight, bias)
    if rows == 1:
        return onednn_linear(input, weight, bias)
    product = torch.addmm(bias[:, None], weight, input.reshape(rows, -1).t())
    return product.t().contiguous().view(*input.shape[:-1], len(weight))


class Linear(nn.Linear):
    """`nn.Linear` by `linear`."""

    def forward(self, input: Float[Tensor, "*rows inputs"]) -> Float[Tensor, "*rows outputs"]:
        """`input @ weight.T + bias`."""
        return linear(input, self.weight, self.bias)
