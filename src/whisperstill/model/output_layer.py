"""Output layer of decoding steps, with preallocated buffers.

The logits of a step take some megabytes. To allocate and clear them at every step can take longer than the product.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from whisperstill.model.int8 import Int8Linear
from whisperstill.model.linear import onednn_linear

MAX_TRANSPOSED_ROWS_BY_DTYPE = {torch.float32: 4, torch.bfloat16: 64}
"""Largest number of rows (from 2 in float32, from 1 in bfloat16) for the transposed product on a CPU, which is up to
twice as fast (see `model.linear`). Other float32 products use oneDNN."""


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
