"""What the student is trained on. Teacher and student read the very same batch."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """A batch of windows, their sequences one behind the other: there is no padding."""

    window_ids: tuple[str, ...]
    """Ids of the windows."""
    encoder_states: Float[Tensor, "batch positions width"]
    """Encoder states: the student's encoder is the teacher's, frozen, so both decoders read these."""
    lengths: tuple[int, ...]
    """Decoder tokens of each window."""
    decoder_ids: Int[Tensor, "tokens"]
    """Prompt (if drawn), start tokens, transcript."""
    target_ids: Int[Tensor, "tokens"]
    """The token that follows each decoder token."""
    loss_mask: Bool[Tensor, "tokens"]
    """Where the loss looks: at transcript and end token of utterances the filter kept."""
    kl_mask: Bool[Tensor, "tokens"]
    """Where the teacher's distribution is known for exactly these decoder tokens; within `loss_mask`."""
    token_weights: Float[Tensor, "tokens"]
    """How much each token counts, where it is looked at; 1 unless the filter weighs labels."""

    def to(self, device: torch.device | str) -> "TokenBatch":
        """The same batch on another device."""
        tensors = (self.decoder_ids, self.target_ids, self.loss_mask, self.kl_mask, self.token_weights)
        return TokenBatch(
            self.window_ids, self.encoder_states.to(device), self.lengths, *(tensor.to(device) for tensor in tensors)
        )


@dataclass(frozen=True, slots=True)
class TopKTargets:
    """The teacher's distribution at the taught tokens of a batch, in the order of `kl_mask.nonzero()`."""

    ids: Int[Tensor, "taught k"]
    logits: Float[Tensor, "taught k"]
    lse: Float[Tensor, "taught"]
    """Log-sum-exp at the temperature of the loss (of the logits divided by it)."""


@dataclass(frozen=True, slots=True)
class HiddenTargets:
    """The teacher's last hidden states at the taught tokens; with its embedding they are its distribution."""

    hidden: Float[Tensor, "taught width"]
    embedding: Float[Tensor, "vocab width"]
