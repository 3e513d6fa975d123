"""What `whisperstill train` can be told: every setting with its default, and what cannot be."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from whisperstill.errors import SettingsError
from whisperstill.records.augment_settings import NO_AUGMENTATION, AugmentSettings


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
    teacher_targets: Literal["topk", "hidden", "online"] = "topk"
    """Teacher's distribution: stored top-k (bounds the KL from below), stored hidden states, or its decoder online."""
    encoder_states: Literal["auto", "store", "online"] = "auto"
    """Encoder states: from the store, or computed (auto: from the store where it has them)."""
    teacher: str | None = None
    """Teacher for `teacher_targets online`, `augment` and `on_policy_fraction`, and for `teacher_targets hidden` where
    the student's embedding is no longer its teacher's (default: the one that made the labels)."""
    packing_variants: int | None = None
    """Train only on the labels' first so many ways of packing (default: all)."""
    num_train_epochs: int = 10
    """Passes over all windows."""
    max_steps: int | None = None
    """Stop after this many optimiser steps."""
    batch_size: int = 8
    """Windows per optimiser step, over all processes."""
    micro_batch_size: int | None = None
    """Windows whose gradients are taken at a time (default: as many as fit a quarter of the memory). The result is the
    same but for rounding, and for which branches `dropout` drops: that is drawn from one micro-batch to the next."""
    learning_rate: float = 3e-4
    """Peak learning rate (the paper: 1e-4 at batch 256)."""
    warmup_steps: int = 50
    """Steps of linear warm-up."""
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = "linear"
    """Decay after the warm-up."""
    adam_beta1: float = 0.9
    """AdamW's first decay."""
    adam_beta2: float = 0.999
    """AdamW's second decay."""
    adam_epsilon: float = 1e-8
    """AdamW's epsilon."""
    weight_decay: float = 0.0
    """AdamW's weight decay (the paper: none)."""
    max_grad_norm: float = 1.0
    """Largest gradient norm."""
    kl_weight: float = 0.8
    """Weight of the KL loss (paper eq. 6)."""
    ce_weight: float = 1.0
    """Weight of the pseudo-label loss (paper eq. 6)."""
    hidden_loss_weight: float = 0.0
    """Weight of the mean squared error to the teacher's last hidden states (not in the paper; helps small data)."""
    layer_loss_weight: float = 0.0
    """Weight of the mean squared error to what the teacher's layers hand on; needs `teacher_targets online`."""
    attention_loss_weight: float = 0.0
    """Weight of the KL divergence to where the teacher's layers look in the window; needs `teacher_targets online`."""
    temperature: float = 2.0
    """Temperature of the KL loss."""
    divergence: Literal["forward-kl", "reverse-kl", "jsd", "tv", "skewed-kl"] = "forward-kl"
    """What stands in the place of the KL loss; `tv` makes drafts that are accepted."""
    freeze_embed_tokens: bool = False
    """Keep the token embedding as it is (not in the paper; helps small data)."""
    freeze_embed_positions: bool = False
    """Keep the decoder's positions as they are."""
    dropout: float = 0.0
    """Share of each residual branch of the decoder dropped in training."""
    decoder_input_noise: float = 0.0
    """Share of the tokens that the decoder reads replaced by random ones (the targets stay): it has to listen."""
    encoder_mask_prob: float = 0.0
    """Share of encoder states hidden from the decoder (online: from the teacher's, too), in stretches of 0.2 s."""
    ema_decay: float = 0.0
    """Decay of an average over the last steps' weights, which is validated and becomes the result; 0: none."""
    on_policy_fraction: float = 0.0
    """Share of the steps, the last ones, in which the student transcribes half of the windows itself, and learns what
    the teacher would have said along its own words."""
    augment: AugmentSettings = NO_AUGMENTATION
    """Windows heard changed, with the teacher's answer for that."""
    timestamp_probability: float = 0.0
    """Share of samples decoded with timestamps (the paper: 0.5); needs labels with timestamps."""
    condition_on_prev_probability: float = 0.0
    """Share of samples with the window before as a prompt; only `teacher_targets online` teaches their distribution."""
    eval_steps: int = 200
    """Steps between validations; 0: at the end alone."""
    save_steps: int = 200
    """Steps between checkpoints."""
    logging_steps: int = 10
    """Steps between lines of metrics.jsonl."""
    device: str = "auto"
    """`cpu`, `cuda`, or `auto`."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of computation (weights stay float32); `auto` takes bfloat16 where the hardware multiplies it fast."""
    seed: int = 0
    """Seed of order, views and dropout."""

    def check(self) -> None:
        """Raises `SettingsError` that lists all problems."""
        problems = []
        for name in ("num_train_epochs", "batch_size", "save_steps", "logging_steps", "validation_limit"):
            if getattr(self, name) < 1:
                problems.append(f"{name} must be at least 1, got {getattr(self, name)}")
        if (self.layer_loss_weight or self.attention_loss_weight) and self.teacher_targets != "online":
            problems.append(
                "layer_loss_weight and attention_loss_weight ask the teacher's layers: use --teacher-targets online"
            )
        loss_weights = ("kl_weight", "ce_weight", "hidden_loss_weight", "layer_loss_weight", "attention_loss_weight")
        for name in (*loss_weights, "weight_decay", "warmup_steps", "eval_steps"):
            if getattr(self, name) < 0:
                problems.append(f"{name} must be at least 0, got {getattr(self, name)}")
        for name in ("learning_rate", "temperature", "max_grad_norm"):
            if getattr(self, name) <= 0:
                problems.append(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("timestamp_probability", "condition_on_prev_probability", "on_policy_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                problems.append(f"{name} must be 0 to 1, got {getattr(self, name)}")
        augment = self.augment
        for name in ("prob", "noise_prob"):
            if not 0 <= getattr(augment, name) <= 1:
                problems.append(f"augment.{name} must be 0 to 1, got {getattr(augment, name)}")
        for name in ("epochs_per_version", "spec_augment_masks"):
            if getattr(augment, name) < 0:
                problems.append(f"augment.{name} must be at least 0, got {getattr(augment, name)}")
        if not 0 <= augment.speed_perturbation < 1:
            problems.append(f"augment.speed_perturbation must be 0 to below 1, got {augment.speed_perturbation}")
        if augment.min_snr_db > augment.max_snr_db:
            problems.append(
                f"augment.min_snr_db ({augment.min_snr_db}) must be at most max_snr_db ({augment.max_snr_db})"
            )
        if augment.epochs_per_version and self.teacher_targets == "topk":
            problems.append("augmented windows have no stored top-k: use --teacher-targets hidden or online")
        if self.on_policy_fraction and not self.kl_weight + self.hidden_loss_weight > 0:
            problems.append(
                "on_policy_fraction teaches the teacher's distribution: kl_weight or hidden_loss_weight must be above 0"
            )
        for name in ("packing_variants", "micro_batch_size", "max_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                problems.append(f"{name} must be at least 1, got {value}")
        for name in ("dropout", "decoder_input_noise", "encoder_mask_prob", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                problems.append(f"{name} must be 0 to below 1, got {getattr(self, name)}")
        if not self.kl_weight + self.ce_weight + self.hidden_loss_weight > 0:
            problems.append("at least one of kl_weight, ce_weight, hidden_loss_weight must be above 0")
        if problems:
            raise SettingsError("; ".join(problems))
