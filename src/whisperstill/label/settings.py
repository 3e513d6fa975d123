"""Settings of `whisperstill label` and `filter`, without torch."""

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from whisperstill.errors import SettingsError
from whisperstill.label.filter_rules import RuleSettings
from whisperstill.label.threshold_sweep import WER_LIMITS_PERCENT
from whisperstill.remote_files import is_remote


@dataclass(frozen=True)
class LabelSettings:
    """Pseudo-label audio with a teacher."""

    teacher: str
    """Teacher checkpoint: a directory, an installed weights package (`tiny.en`), or a hub id."""
    manifest: tuple[str, ...]
    """Corpora to label: JSONL manifests, or folders in any supported layout."""
    output: Path
    """Folder of the label store. A second run with the same settings resumes an interrupted one."""
    layout: str = "auto"
    """Layout of the corpora; `auto` detects it."""
    language: str | None = None
    """Language of all audio (ISO 639-1). Default: the corpus's own, else detected per window."""
    timestamps: bool = False
    """Timestamp tokens in the teacher's output."""
    label_source: Literal["teacher", "reference"] = "teacher"
    """Source of the label text: the teacher's own transcript, or the corpus's reference transcript, along which the
    teacher's token distribution is computed (teacher forcing). References with case and punctuation train best."""
    top_k: int = 32
    """Largest logits stored per token, for the KL loss; 0 stores none."""
    encoder_states: Literal["none", "float32", "bfloat16", "int8"] = "none"
    """Data type in which the teacher's encoder states and last decoder states are stored; with them, training runs no
    encoder."""
    packing_variants: int = 1
    """Number of ways to pack the same utterances into windows: 1 is recording order, each further one reshuffles."""
    max_packed_seconds: float = 30.0
    """Maximum seconds of audio packed into a window."""
    min_packed_seconds: float | None = None
    """Minimum seconds of audio in a window of a reshuffled variant: each window is filled to a random length between
    this and `max_packed_seconds`, so that training sees short clips too. Default: windows are filled completely."""
    batch_size: int = 16
    """Windows decoded together."""
    shard_windows: int = 64
    """Windows per shard of the store; an interruption loses at most one shard."""
    max_new_tokens: int = 224
    """Maximum tokens decoded per window."""
    device: str = "auto"
    """Device: `cpu`, `cuda`, or `auto`."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Data type of the computation; `auto`: bfloat16 on hardware with fast bfloat16, else float32."""
    seed: int = 0
    """Seed of the reshuffled packing variants."""
    workers: int = 0
    """Ray workers that label in parallel (extra `ray`); 0 labels in this process."""
    ray_address: str = "local"
    """Address of the Ray cluster: `local` starts one on this machine, `auto` joins the cluster of this machine."""
    strict: bool = False
    """Exit with status 1 if an utterance was skipped; by default it is listed, and the status is 0."""


@dataclass(frozen=True, kw_only=True)
class FilterSettings(RuleSettings):
    """Filter pseudo-labels by utterance; a bad utterance does not drop the good ones of its window."""

    labels: Path
    """Label store to filter."""
    output: Path
    """Folder for the filter decisions."""
    max_predicted_wer: float | None = None
    """Maximum predicted word error rate, per cent, of utterances without a reference (extra `prediction`). The
    predictor is trained on the utterances of the store that have one."""
    weight_by_predicted_wer: bool = False
    """Weight the loss of utterances without a reference by 1 - predicted WER. Those above `max_predicted_wer` are
    still dropped."""
    subset_hours: float | None = None
    """Maximum hours to keep, to compare students of more and less data. Windows are selected by a hash of their ids,
    so a smaller subset is part of every larger one."""
    second_opinion: Path | None = None
    """Label store of the same audio by another model (tiny.en, the student): features for the WER prediction."""
    tune: Path | None = None
    """Recipe (TOML file of stages, as for `run`) that chooses `max_wer`: for each value of `tune_wer` a pilot student
    is trained with its `[init]` and `[train]` on the labels kept, and the value with the lowest validation error is
    used (as in the paper)."""
    tune_wer: tuple[float, ...] = (100.0, 40.0, 20.0, 10.0, 5.0)
    """Values of `max_wer` to try, per cent."""
    tune_steps: int = 150
    """Training steps per pilot."""
    tune_seeds: tuple[int, ...] = (0,)
    """Seeds per pilot; the mean error counts."""
    sweep: bool = False
    """Table and plot of what would remain for a range of WER thresholds."""
    sweep_wer: tuple[float, ...] = WER_LIMITS_PERCENT
    """WER thresholds of `sweep`, per cent (the paper's)."""

    @property
    def rules(self) -> RuleSettings:
        """The rules alone."""
        return RuleSettings(**{field.name: getattr(self, field.name) for field in fields(RuleSettings)})


def check_label_settings(settings: LabelSettings) -> None:
    """Raises one `SettingsError` that lists all problems."""
    max_seconds, min_seconds = settings.max_packed_seconds, settings.min_packed_seconds
    problems = []
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        problems.append("torchrun is for train alone: label with several processes by --workers")
    if not settings.manifest:
        problems.append("manifest must name at least one corpus")
    if (duplicate := _first_duplicate(settings.manifest)) is not None:
        problems.append(f"manifest names {duplicate} twice: name each corpus once")
    if not 0 < max_seconds <= 30:
        problems.append(f"max_packed_seconds must be above 0 and at most 30 seconds, got {max_seconds:g}")
    if min_seconds is not None and not 0 <= min_seconds <= max_seconds:
        problems.append(f"min_packed_seconds must be 0 to max_packed_seconds ({max_seconds:g}), got {min_seconds:g}")
    if settings.timestamps and settings.label_source == "reference":
        problems.append("timestamps need label_source teacher: references have none")
    for name, minimum in {
        "top_k": 0, "workers": 0, "packing_variants": 1, "batch_size": 1, "shard_windows": 1, "max_new_tokens": 1
    }.items():  # fmt: skip
        if getattr(settings, name) < minimum:
            problems.append(f"{name} must be at least {minimum}, got {getattr(settings, name)}")
    if problems:
        raise SettingsError("; ".join(problems))


def _first_duplicate(sources: tuple[str, ...]) -> str | None:
    """The first corpus named before; local paths are compared as absolute paths without symbolic links."""
    seen: set[str] = set()
    for source in sources:
        resolved = source if is_remote(source) or source.startswith("hf:") else os.path.realpath(source)
        if resolved in seen:
            return resolved
        seen.add(resolved)
    return None
