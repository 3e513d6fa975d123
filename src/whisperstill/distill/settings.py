"""Settings of the verbs that train, with every default and help text. Imports no torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from whisperstill.errors import SettingsError
from whisperstill.plugins import registered_names
from whisperstill.records.augment_settings import NO_AUGMENTATION, AugmentSettings

DIVERGENCES = ("forward-kl", "reverse-kl", "jsd", "tv", "skewed-kl")
LrSchedulerType = Literal["linear", "cosine", "constant"]
TargetKind = Literal["topk", "hidden", "online"]
RANGES: dict[str, Callable[[float], bool]] = {
    "at least 0": lambda value: value >= 0,
    "at least 1": lambda value: value >= 1,
    "above 0": lambda value: value > 0,
    "0 to 1": lambda value: 0 <= value <= 1,
    "0 to below 1": lambda value: 0 <= value < 1,
}
"""Valid values of a setting, by their description in messages."""


@dataclass(frozen=True)
class InitSettings:
    """Make a student: the teacher's encoder and some of its decoder layers."""

    teacher: str
    """Teacher: name (`tiny.en`, `large-v3`, `owner/name`) or directory."""
    output: Path
    """Directory of the student, in Hugging Face format."""
    decoder_layers: int = 2
    """Decoder layers of the student; 2 is the paper's choice."""
    layer_selection: Literal["spaced", "importance"] = "spaced"
    """Choice of layers: maximally spaced (the paper), or by how much each layer changes its input, measured on
    `labels`."""
    labels: Path | None = None
    """Label store of the teacher, for `layer_selection importance`."""
    layers: tuple[int, ...] | None = None
    """Decoder layers copied from the teacher, counted from 0; overrides `decoder_layers`."""
    language: str | None = None
    """Default language of a multilingual student (`de`); by default it is detected."""
    overwrite: bool = False
    """Replace another student in `output`."""


@dataclass(frozen=True)
class LoopSettings:
    """Settings of the training loop: data, optimizer, validation, checkpoints."""

    student: Path
    """Initial student, as written by `whisperstill init`."""
    labels: Path
    """Label store, or the output of `filter` (only the utterances it kept are used)."""
    output: Path
    """Directory of the trained student (Hugging Face format), its checkpoints and metrics; an existing run resumes."""
    validation: tuple[str, ...] = ()
    """Validation corpora: JSONL manifests or folders with references. The weights with the lowest WER on them become
    the result; without validation, the last weights."""
    validation_limit: int = 200
    """Maximum number of validation utterances; a larger set is sampled at regular intervals."""
    packing_variants: int | None = None
    """Number of packing variants to train on, out of those of `label --packing-variants`. An epoch holds the windows of
    all of them. Default: all."""
    num_train_epochs: int = 10
    """Passes over all windows; `max_steps` may end training earlier."""
    max_steps: int | None = None
    """Maximum number of optimizer steps."""
    batch_size: int = 8
    """Windows per optimizer step, over all processes."""
    learning_rate: float = 3e-4
    """Peak learning rate (the paper: 1e-4 at batch size 256)."""
    warmup_steps: int = 50
    """Steps of linear warm-up."""
    lr_scheduler_type: LrSchedulerType = "linear"
    """Learning-rate schedule after the warm-up."""
    adam_beta1: float = 0.9
    """Beta 1 of AdamW."""
    adam_beta2: float = 0.999
    """Beta 2 of AdamW."""
    adam_epsilon: float = 1e-8
    """Epsilon of AdamW."""
    weight_decay: float = 0.0
    """Weight decay of AdamW (the paper: none)."""
    max_grad_norm: float = 1.0
    """Gradient norm above which gradients are clipped."""
    ema_decay: float = 0.0
    """Decay of the exponential moving average of the weights, which is validated and saved as the result; 0: none."""
    eval_steps: int = 200
    """Steps between validations; 0: only after the last step."""
    save_steps: int = 200
    """Steps between checkpoints."""
    logging_steps: int = 10
    """Steps between lines of metrics.jsonl."""
    device: str = "auto"
    """Device: `cpu`, `cuda` or `auto`."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Data type of the computation (weights stay float32); `auto`: bfloat16 on hardware with fast bfloat16, else
    float32."""
    seed: int = 0
    """Seed of the window order."""

    def check(self) -> None:
        """Raise one `SettingsError` that lists all problems."""
        if problems := self.problems():
            raise SettingsError("; ".join(problems))

    def problems(self) -> list[str]:
        """One message per invalid setting."""
        counts = ("num_train_epochs", "batch_size", "save_steps", "logging_steps", "validation_limit")
        return [
            *_out_of_range(self, "at least 1", (*counts, "packing_variants", "max_steps")),
            *_out_of_range(self, "at least 0", ("weight_decay", "warmup_steps", "eval_steps")),
            *_out_of_range(self, "above 0", ("learning_rate", "max_grad_norm")),
            *_out_of_range(self, "0 to below 1", ("ema_decay",)),
        ]


@dataclass(frozen=True)
class CompressSettings(LoopSettings):
    """Train a shallower encoder to reproduce the teacher's encoder states."""

    student: Path
    """Student (or teacher) whose encoder is to shrink; its decoder is unchanged."""
    labels: Path
    """Label store with the states of the encoder of `student` (`label --encoder-states bfloat16`)."""
    encoder_layers: int = 4
    """Encoder layers to keep, maximally spaced."""
    layers: tuple[int, ...] | None = None
    """Encoder layers to keep, numbered from 0; overrides `encoder_layers`."""
    packing_variants: int | None = 1
    """Number of packing variants of the labels to train on; None: all."""
    num_train_epochs: int = 4
    """Passes over all windows."""


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses."""

    kl_weight: float = 0.8
    """Weight of the KL loss (paper, eq. 6)."""
    ce_weight: float = 1.0
    """Weight of the cross-entropy on the pseudo-labels (paper, eq. 6)."""
    temperature: float = 2.0
    """Temperature of the KL loss."""
    divergence: str = "forward-kl"
    """Divergence in place of the KL: forward-kl, reverse-kl, jsd (Jensen-Shannon), tv (total variation, suits draft
    models), skewed-kl, or a loss that a plugin registers."""
    hidden_loss_weight: float = 0.0
    """Weight of the mean squared error between the last decoder states of student and teacher (not in the paper; helps
    with little data)."""
    layer_loss_weight: float = 0.0
    """Weight of the mean squared error between the outputs of a student layer and of the teacher layer before its next
    copied one; needs `teacher_targets online`."""
    attention_loss_weight: float = 0.0
    """Weight of the KL divergence between the cross-attention of a student layer and of the teacher layer that it was
    copied from; needs `teacher_targets online`."""

    @property
    def needs_layer_outputs(self) -> bool:
        """Whether a loss compares inner layers, for which the teacher has to run."""
        return bool(self.layer_loss_weight or self.attention_loss_weight)


@dataclass(frozen=True)
class ExampleOptions:
    """Random choices made when an example is tokenized, drawn per (seed, epoch, window)."""

    seed: int = 0
    """Seed of window order, of the choices per window (timestamps, prompt, noise, masks), of augmentation and
    dropout."""
    timestamp_probability: float = 0.0
    """Fraction of examples with timestamps (the paper: 0.5); needs labels with timestamps."""
    condition_on_prev_probability: float = 0.0
    """Fraction of examples prompted with the text of the previous window. They are in the KL loss only with
    `teacher_targets online`."""
    decoder_input_noise: float = 0.0
    """Fraction of decoder input tokens replaced by random ones; the targets are unchanged."""
    encoder_mask_prob: float = 0.0
    """Fraction of encoder states masked, in 0.2 s spans; with online targets the teacher sees the same mask."""


@dataclass(frozen=True)
class DistillationSettings(ExampleOptions, LossConfig, LoopSettings):
    """Settings of decoder distillation."""

    teacher_targets: TargetKind = "topk"
    """Source of the teacher's distribution: stored top-k logits (a lower bound of the KL), stored last decoder states
    (the exact KL), or the teacher's decoder run online."""
    encoder_states: Literal["auto", "store", "online"] = "auto"
    """Source of the encoder states: the label store, or the encoder run online (auto: the store if it has them)."""
    teacher: str | None = None
    """Teacher checkpoint; by default that of the labels. Loaded only for `teacher_targets online`, `augment`,
    `on_policy_fraction`, and for `teacher_targets hidden` if the student's token embedding has been trained."""
    micro_batch_size: int | None = None
    """Windows per forward and backward pass (default: as many as fit a quarter of the device's memory). Changes results
    only by rounding and by the random choices of `dropout`."""
    freeze_embed_tokens: bool = False
    """Freeze the token embedding (not in the paper; helps with little data)."""
    freeze_embed_positions: bool = False
    """Freeze the position embedding of the decoder."""
    dropout: float = 0.0
    """Dropout of the residual branches of the decoder."""
    on_policy_fraction: float = 0.0
    """Fraction of steps, at the end, in which the student decodes half of the windows greedily, and is trained on the
    teacher's distribution along its own tokens instead of the labels."""
    augment: AugmentSettings = NO_AUGMENTATION
    """Audio augmentation, with teacher targets computed for the augmented audio."""

    @property
    def needs_online_teacher(self) -> bool:
        """Whether the teacher has to run during training."""
        return bool(self.teacher_targets == "online" or self.augment.epochs_per_version or self.on_policy_fraction)

    def problems(self) -> list[str]:
        """One message per invalid setting."""
        loss_weights = ("kl_weight", "ce_weight", "hidden_loss_weight", "layer_loss_weight", "attention_loss_weight")
        fractions = ("timestamp_probability", "condition_on_prev_probability", "on_policy_fraction")
        noise = ("dropout", "decoder_input_noise", "encoder_mask_prob")
        problems = [
            *super().problems(),
            *_out_of_range(self, "at least 1", ("micro_batch_size",)),
            *_out_of_range(self, "at least 0", loss_weights),
            *_out_of_range(self, "above 0", ("temperature",)),
            *_out_of_range(self, "0 to 1", fractions),
            *_out_of_range(self, "0 to below 1", noise),
            *_augment_problems(self.augment),
        ]
        divergences = (*DIVERGENCES, *registered_names("losses"))
        if self.divergence not in divergences:
            problems.append(f"divergence must be one of {', '.join(divergences)}, got {self.divergence}")
        if self.needs_layer_outputs and self.teacher_targets != "online":
            problems.append("layer_loss_weight and attention_loss_weight need --teacher-targets online")
        if self.augment.epochs_per_version and self.teacher_targets == "topk":
            problems.append("augmented windows have no stored top-k: use --teacher-targets hidden or online")
        if self.on_policy_fraction and not self.kl_weight + self.hidden_loss_weight > 0:
            problems.append("on_policy_fraction needs a kl_weight or hidden_loss_weight above 0")
        if not self.kl_weight + self.ce_weight + self.hidden_loss_weight > 0:
            problems.append("at least one of kl_weight, ce_weight, hidden_loss_weight must be above 0")
        if self.teacher_targets == "topk" and self.temperature > 0 and self.temperature not in (1.0, 2.0):
            problems.append(
                f"temperature must be 1 or 2 with stored top-k (their log-sum-exps are stored), got "
                f"{self.temperature:g}: use --teacher-targets hidden or online"
            )
        return problems


def _augment_problems(augment: AugmentSettings) -> list[str]:
    problems = [
        *_out_of_range(augment, "0 to 1", ("prob", "noise_prob"), "augment."),
        *_out_of_range(augment, "at least 0", ("epochs_per_version", "spec_augment_masks"), "augment."),
        *_out_of_range(augment, "0 to below 1", ("speed_perturbation",), "augment."),
    ]
    if augment.min_snr_db > augment.max_snr_db:
        problems.append(f"augment.min_snr_db ({augment.min_snr_db}) must be at most max_snr_db ({augment.max_snr_db})")
    return problems


def _out_of_range(
    settings: LoopSettings | AugmentSettings, expected: str, names: Sequence[str], prefix: str = ""
) -> list[str]:
    """A message for each of these settings that has an invalid value; None is valid."""
    values = {name: getattr(settings, name) for name in names}
    return [
        f"{prefix}{name} must be {expected}, got {value}"
        for name, value in values.items()
        if value is not None and not RANGES[expected](value)
    ]
