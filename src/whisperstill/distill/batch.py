"""What the student is trained on: windows, their token sequences, and the teacher's targets. Both decode one batch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from whisperstill.distill.dataset import TrainingExample


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


@dataclass(frozen=True, slots=True)
class TeacherTargets:
    """Targets at the tokens in the KL loss of a batch; None for what the loss does not need or has no token."""

    topk: TopKTargets | None = None
    hidden: Float[Tensor, "taught width"] | None = None
    """Last hidden states. Without top-k they give the distribution."""


@dataclass(frozen=True, slots=True)
class WindowBatch:
    """Windows of a micro-batch."""

    examples: Sequence[TrainingExample]
    windows_encoded: int
    """Windows for which an encoder ran."""
    decoder_tokens: int
    """Decoder input tokens; of an on-policy batch the start tokens, since the transcript is not known yet."""

    @property
    def audio_seconds(self) -> float:
        return sum(example.label.window.duration for example in self.examples)


@dataclass(frozen=True, slots=True)
class OnPolicyBatch(WindowBatch):
    """Windows that the student is to transcribe (see `on_policy`)."""

    encoder_states: Float[Tensor, "batch positions width"]
    start_tokens: tuple[tuple[int, ...], ...]
    """Start-of-transcript sequence of each window."""


@dataclass(frozen=True, slots=True)
class TokenBatch(WindowBatch):
    """Labelled windows, or windows that the student transcribed; sequences are packed one after another, unpadded."""

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
    stored: TeacherTargets | None
    """Stored teacher targets, on the CPU; None for windows that the student transcribed."""

    def to(self, device: torch.device | str) -> "TokenBatch":
        """The tokens and encoder states on another device."""
        return replace(
            self,
            encoder_states=self.encoder_states.to(device),
            decoder_ids=self.decoder_ids.to(device),
            target_ids=self.target_ids.to(device),
            loss_mask=self.loss_mask.to(device),
            kl_mask=self.kl_mask.to(device),
            token_weights=self.token_weights.to(device),
        )
