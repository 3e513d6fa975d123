"""Linear layers that are fast for few rows on a CPU.

BLAS libraries are tuned for a tall left factor: a float32 product of a few rows with a weight takes up to three times
as long as that of one row, although it reads the same weight. With the weight as left factor it takes little longer
than one row, so that the verification of draft blocks pays off. oneDNN is fastest for a single row, and up to twice as
fast as BLAS for long weights.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

MAX_TRANSPOSED_ROWS = 64
"""The weight is the left factor for 2 to this many rows."""


def _find_onednn_linear() -> Any:
    """PyTorch's internal oneDNN operator; None in builds without oneDNN."""
    try:
        return torch.ops.mkldnn._linear_pointwise if torch.backends.mkldnn.is_available() else None  # type: ignore[no-untyped-call]
    except AttributeError:
        return None


_onednn_op = _find_onednn_linear()


def onednn_linear(
    input: Float[Tensor, "*rows inputs"], weight: Float[Tensor, "outputs inputs"], bias: Float[Tensor, "outputs"] | None
) -> Float[Tensor, "*rows outputs"]:
    """`input @ weight.T + bias` with oneDNN if available. Float32 on a CPU, without gradients."""
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
    """`nn.Linear` that uses `linear`."""

    def forward(self, input: Float[Tensor, "*rows inputs"]) -> Float[Tensor, "*rows outputs"]:
        return linear(input, self.weight, self.bias)
