"""The output layer of step after step, in memory that is kept.

A step's logits are some megabytes. Allocated anew for every step, their pages are handed out, cleared and given back
each time, which can cost more than the product itself.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from whisperstill.model.int8 import Int8Linear
from whisperstill.model.linear import onednn_linear

MAX_TRANSPOSED_ROWS_BY_DTYPE = {torch.float32: 4, torch.bfloat16: 64}
"""From 2 (bf16: from 1) to this many rows a CPU multiplies the vocabulary with the rows, not the rows with it: BLAS
libraries block for tall left factors, and the transposed product is up to twice as fast. All others are oneDNN's."""


class OutputLayer:
    """Float32 logits of at most `max_rows` hidden states at a time; by `int8`, the same weight, where it is given."""

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
        """Logits; the next call may overwrite them."""
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
