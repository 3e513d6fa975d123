"""What `whisperstill train` can be told: every setting with its default, and what cannot be."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from whisperstill.errors import SettingsError
from whisperstill.records.augmentation import NO_VIEWS, Augmentation


@dataclass(frozen=True)
class TrainingSettings:
    """How a student is trained."""

    student: Path
    """The student to begin with, as `whisperstill init` wrote it."""
    labels: Path
    """A label store, or a filter's output (its verdicts are then obeyed)."""
    output: Path
    """Folder of the trained student (Hugging Face layout), its checkpoints and metrics; run again, it resumes."""
    validation: tuple[str, ...] = ()
    """Corpora for validation; the weights with the lowest WER on them become the result."""
    validation_limit: int = 200
    """Most utterances validated on: of more, every second, third, ... is taken."""
    targets: Literal["top", "hidden", "live"] = "top"
    """Teacher's distribution: stored top-k (bounds the KL from below), stored hidden states, or its decoder live."""
    states: Literal["auto", "store", "live"] = "auto"
    """Encoder states: from the store, or computed (auto: from the store where it has them)."""
    teacher: str | None = None
    """Teacher for `targets live`, views and the student's own words, and for `targets hidden` where the student's
    embedding is no longer its teacher's (default: the one that made the labels)."""
    packings: int | None = None
    """Train only on the labels' first so many ways of packing (default: all)."""
    epochs: int = 10
    """Passes over all windows."""
    max_steps: int | None = None
    """Stop after this many optimiser steps."""
    batch_size: int = 8
    """Windows per optimiser step, over all processes."""
    micro_batch: int | None = None
    """Windows whose gradients are taken at a time (default: as many as fit a quarter of the memory). The result is the
    same but for rounding, and for which branches `dropout` drops: that is drawn from one micro-batch to the next."""
    learning_rate: float = 3e-4
    """Peak learning rate (the paper: 1e-4 at batch 256)."""
    warmup_steps: int = 50
    """Steps of linear warm-up."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """Decay after the warm-up."""
    beta1: float = 0.9
    """AdamW's first decay."""
    beta2: float = 0.999
    """AdamW's second decay."""
    epsilon: float = 1e-8
    """AdamW's epsilon."""
    weight_decay: float = 0.0
    """AdamW's weight decay (the paper: none)."""
    clip: float = 1.0
    """Largest gradient norm."""
    alpha_kl: float = 0.8
    """Weight of the KL loss (paper eq. 6)."""
    alpha_pl: float = 1.0
    """Weight of the pseudo-label loss (paper eq. 6)."""
    alpha_hidden: float = 0.0
    """Weight of the mean squared error to the teacher's last hidden states (not in the paper; helps small data)."""
    alpha_layers: float = 0.0
    """Weight of the mean squared error to what the teacher's layers hand on; needs `targets live`."""
    alpha_attention: float = 0.0
    """Weight of the KL divergence to where the teacher's layers look in the window; needs `targets live`."""
    temperature: float = 2.0
    """Temperature of the KL loss."""
    divergence: Literal["forward-kl", "reverse-kl", "jsd", "tv", "skewed-kl"] = "forward-kl"
    """What stands in the place of the KL loss; `tv` makes drafts that are accepted."""
    freeze_embedding: bool = False
    """Keep the token embedding as it is (not in the paper; helps small data)."""
    freeze_positions: bool = False
    """Keep the decoder's positions as they are."""
    dropout: float = 0.0
    """Share of each residual branch of the decoder dropped in training."""
    token_noise: float = 0.0
    """Share of the tokens that the decoder reads replaced by random ones (the targets stay): it has to listen."""
    state_masks: float = 0.0
    """Share of the encoder's states hidden from the decoder (live: from the teacher's, too), in stretches of 0.2 s."""
    average: float = 0.0
    """Decay of an average over the last steps' weights, which is validated and becomes the result; 0: none."""
    on_policy: float = 0.0
    """Share of the steps, the last ones, in which the student transcribes half of the windows itself, and learns what
    the teacher would have said along its own words."""
    views: Augmentation = NO_VIEWS
    """Windows heard changed, with the teacher's answer for that."""
    timestamp_probability: float = 0.0
    """Share of samples decoded with timestamps (the paper: 0.5); needs labels with timestamps."""
    prompt_probability: float = 0.0
    """Share of samples with the window before as a prompt; only `targets live` teaches their distribution."""
    eval_every: int = 200
    """Steps between validations; 0: at the end alone."""
    checkpoint_every: int = 200
    """Steps between checkpoints."""
    log_every: int = 10
    """Steps between lines of metrics.jsonl."""
    device: str = "auto"
    """`cpu`, `cuda`, or `auto`."""
    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    """Type of computation (weights stay float32); `auto` takes bf16 where the hardware multiplies it fast."""
    seed: int = 0
    """Seed of order, views and dropout."""

    def check(self) -> None:
        """Raises `SettingsError` that lists all problems."""
        problems = []
        for name in ("epochs", "batch_size", "checkpoint_every", "log_every", "validation_limit"):
            if getattr(self, name) < 1:
                problems.append(f"{name} must be at least 1, got {getattr(self, name)}")
        if (self.alpha_layers or self.alpha_attention) and self.targets != "live":
            problems.append("alpha_layers and alpha_attention ask the teacher's layers: use --targets live")
        weights = ("alpha_kl", "alpha_pl", "alpha_hidden", "alpha_layers", "alpha_attention")
        for name in (*weights, "weight_decay", "warmup_steps", "eval_every"):
            if getattr(self, name) < 0:
                problems.append(f"{name} must be at least 0, got {getattr(self, name)}")
        for name in ("learning_rate", "temperature", "clip"):
            if getattr(self, name) <= 0:
                problems.append(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("timestamp_probability", "prompt_probability", "on_policy"):
            if not 0 <= getattr(self, name) <= 1:
                problems.append(f"{name} must be 0 to 1, got {getattr(self, name)}")
        views = self.views
        for name in ("share", "noisy"):
            if not 0 <= getattr(views, name) <= 1:
                problems.append(f"views.{name} must be 0 to 1, got {getattr(views, name)}")
        for name in ("uses", "masks"):
            if getattr(views, name) < 0:
                problems.append(f"views.{name} must be at least 0, got {getattr(views, name)}")
        if not 0 <= views.speed < 1:
            problems.append(f"views.speed must be 0 to below 1, got {views.speed}")
        if views.lowest_snr > views.highest_snr:
            problems.append(f"views.lowest_snr ({views.lowest_snr}) must be at most highest_snr ({views.highest_snr})")
        if views.uses and self.targets == "top":
            problems.append("views have no stored top-k: use --targets hidden or live")
        if self.on_policy and not self.alpha_kl + self.alpha_hidden > 0:
            problems.append("on_policy teaches the teacher's distribution: alpha_kl or alpha_hidden must be above 0")
        for name in ("packings", "micro_batch", "max_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                problems.append(f"{name} must be at least 1, got {value}")
        for name in ("dropout", "token_noise", "state_masks", "average"):
            if not 0 <= getattr(self, name) < 1:
                problems.append(f"{name} must be 0 to below 1, got {getattr(self, name)}")
        if not self.alpha_kl + self.alpha_pl + self.alpha_hidden > 0:
            problems.append("at least one of alpha_kl, alpha_pl, alpha_hidden must be above 0")
        if problems:
            raise SettingsError("; ".join(problems))
