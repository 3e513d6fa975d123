"""Greedy choice and sampling whose noise depends on seed, position and token only.

Gumbel-max trick: the token with the largest `logit / temperature + g`, where g = -log(-log(u)) and u is uniform, is a
sample from softmax(logits / temperature). Here u is a hash of (seed, position, token), so samples do not depend on the
batch, on timing or on the draft model. A draft model that uses the same noise proposes what the network samples.
"""

from dataclasses import dataclass
from hashlib import blake2b

from jaxtyping import Float, Int
from torch import Tensor

_SPLITMIX64_INCREMENT = -7046029254386353131
_SPLITMIX64_MULTIPLIERS = (-4658895280553007687, -7723592293110705685)
"""Constants of splitmix64 as signed 64-bit integers (Steele, Lea, Flood 2014)."""


@dataclass(frozen=True)
class Sampler:
    """Temperature and seed of every row."""

    temperature: Float[Tensor, "rows"]
    """0: greedy."""
    seed: Int[Tensor, "rows"]
    """Rows with equal seeds have equal noise."""
    greedy: bool
    """Whether all temperatures are 0, known without a device synchronization."""

    def repeat_interleave(self, repeats: int) -> "Sampler":
        """Repeat every row, as `torch.repeat_interleave`."""
        if self.greedy:
            return self
        return Sampler(self.temperature.repeat_interleave(repeats), self.seed.repeat_interleave(repeats), False)

    def sample(
        self, logits: Float[Tensor, "rows vocab"], position: Int[Tensor, "rows"], token_ids: Int[Tensor, "vocab"]
    ) -> Int[Tensor, "rows"]:
        """One token per row, at `position` of the sequence; `token_ids` are those of the logits."""
        indices = logits.argmax(-1)
        if not self.greedy:
            sampled_rows = (self.temperature > 0).nonzero()[:, 0]
            noise = gumbel_noise(self.seed[sampled_rows], position[sampled_rows], token_ids)
            indices[sampled_rows] = (logits[sampled_rows] / self.temperature[sampled_rows, None] + noise).argmax(-1)
        return token_ids[indices]


def sampling_seed(*numbers: int) -> int:
    """64-bit seed from several integers, the same on every machine."""
    digest = blake2b(" ".join(map(str, numbers)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def gumbel_noise(
    seed: Int[Tensor, "rows"], position: Int[Tensor, "rows"], token_ids: Int[Tensor, "vocab"]
) -> Float[Tensor, "rows vocab"]:
    """Gumbel noise as a function of seed, position and token."""
    row_state = _splitmix64(_splitmix64(seed) + position * _SPLITMIX64_INCREMENT)
    bits = _splitmix64(row_state[:, None] + token_ids * _SPLITMIX64_INCREMENT) >> 12 & ((1 << 52) - 1)
    uniform = (bits.double() + 0.5) * 2.0**-52
    return -(-uniform.log()).log().float()


def _splitmix64(x: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """Finalizer of splitmix64: every bit of the result depends on every bit of x."""
    x = (x ^ _logical_shift_right(x, 30)) * _SPLITMIX64_MULTIPLIERS[0]
    x = (x ^ _logical_shift_right(x, 27)) * _SPLITMIX64_MULTIPLIERS[1]
    return x ^ _logical_shift_right(x, 31)


def _logical_shift_right(x: Int[Tensor, "*shape"], bits: int) -> Int[Tensor, "*shape"]:
    """Right shift that fills with zeros; PyTorch's fills with the sign bit."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
