"""Linear layers that are fast for few rows on a CPU.

BLAS libraries are tuned for a tall left factor: a float32 product of a few rows with a weight takes up to three times
as long as that of one row, although it reads the same weight. With the weight as left factor it takes little longer
than one row, so that the verification of draft blocks pays off. oneDNN is fastest for a single row, and up to twice as
fast as BLAS for long weights. The logits of a decoding step take some megabytes; to allocate and clear them at every
step can take longer than the product, so `OutputLayer` reuses its buffers.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from whisperstill.model.int8 import Int8Linear

MAX_TRANSPOSED_ROWS = 64
"""The weight is the left factor for 2 to this many rows."""
MAX_TRANSPOSED_ROWS_BY_DTYPE = {torch.float32: 4, torch.bfloat16: 64}
"""Largest number of rows (from 2 in float32, from 1 in bfloat16) for the transposed product on a CPU, which is up to
twice as fast (see above). Other float32 products use oneDNN."""


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


class OutputLayer:
    """Float32 logits of at most `max_rows` hidden states at once. `int8`: 8-bit copy of the weight, used if given."""

    def __init__(self, weight: Float[Tensor, "vocab width"], max_rows: int, int8: Int8Linear | None = None) -> None:
        self._weight, self._int8 = weight, int8
        on_cpu = weight.device.type == "cpu" and int8 is None
        self._max_transposed_rows = min(max_rows, MAX_TRANSPOSED_ROWS_BY_DTYPE.get(weight.dtype, 0)) if on_cpu else 0
        self._use_onednn = on_cpu and weight.dtype == torch.float32
        if self._max_transposed_rows:
            vocab_size = weight.shape[0]
            self._transposed_buffer = weight.new_empty(vocab_size * self._max_transposed_rows)
            self._logits_buffer = torch.empty(self._max_transposed_rows, vocab_size, device=weight.device)

    def __call__(self, hidden: Float[Tensor, "rows width"]) -> Float[Tensor, "rows vocab"]:
        """Logits of hidden states. The next call may overwrite them."""
        if self._int8 is not None:
            int8_logits: Tensor = self._int8(hidden)
            return int8_logits.float()
        rows, vocab_size = len(hidden), self._weight.shape[0]
        if self._use_onednn and not 1 < rows <= self._max_transposed_rows:
            return onednn_linear(hidden, self._weight, None)
        if rows > self._max_transposed_rows:
            return F.linear(hidden, self._weight).float()
        product = self._transposed_buffer[: vocab_size * rows].view(vocab_size, rows)
        torch.mm(self._weight, hidden.t(), out=product)
        return self._logits_buffer[:rows].copy_(product.t())
