"""What the student is trained on. Teacher and student decode the same batch."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Encoder states and token sequences of a batch of windows; sequences are packed one after another, unpadded."""

    encoder_states: Float[Tensor, "batch positions width"]
    """Encoder states, for both decoders: the student shares the teacher's frozen encoder."""
    lengths: tuple[int, ...]
    """Decoder tokens of each window."""
    decoder_ids: Int[Tensor, "tokens"]
    """Decoder input: prompt (if any), start tokens, transcript."""
    target_ids: Int[Tensor, "tokens"]
    """Token that follows each decoder token."""
    loss_mask: Bool[Tensor, "tokens"]
    """Targets in a loss: transcript and end token of utterances the filter kept."""
    kl_mask: Bool[Tensor, "tokens"]
    """Targets in the KL loss: those whose teacher distribution is known for this decoder input; within `loss_mask`."""
    token_weights: Float[Tensor, "tokens"]
    """Weight of each token in the losses; 1 unless the filter weights labels."""

    def to(self, device: torch.device | str) -> "TokenBatch":
        """The batch on another device."""
        tensors = (self.decoder_ids, self.target_ids, self.loss_mask, self.kl_mask, self.token_weights)
        return TokenBatch(self.encoder_states.to(device), self.lengths, *(tensor.to(device) for tensor in tensors))


@dataclass(frozen=True, slots=True)
class TopKTargets:
    """The teacher's top-k logits at the tokens in the KL loss, in the order of `kl_mask.nonzero()`."""

    ids: Int[Tensor, "taught k"]
    logits: Float[Tensor, "taught k"]
    lse: Float[Tensor, "taught"]
    """Log-sum-exp of all logits divided by the temperature of the loss."""

    def to(self, device: torch.device | str) -> "TopKTargets":
        """The targets on another device."""
        return TopKTargets(self.ids.to(device), self.logits.to(device), self.lse.to(device))


@dataclass(frozen=True, slots=True)
class HiddenTargets:
    """The teacher's last hidden states at the tokens in the KL loss; with its embedding they give its distribution."""

    hidden: Float[Tensor, "taught width"]
    embedding: Float[Tensor, "vocab width"]
