"""Datasets of a suite: the utterances of a corpus that are scored, and how."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from math import ceil
from pathlib import Path
from typing import TypeVar

from whisperstill.atomic_io import file_sha256
from whisperstill.corpus import read_corpus
from whisperstill.corpus.loading import AudioTransform
from whisperstill.errors import CorpusError
from whisperstill.evaluate.metrics import Scoring
from whisperstill.evaluate.suite.spec import DatasetSpec, EvaluateSettings
from whisperstill.records import Utterance
from whisperstill.records.json_value import JsonValue
from whisperstill.text.normalizers import common_error_rate_unit, normalizer_name_for
from whisperstill.units import WINDOW_SECONDS

Item = TypeVar("Item")


@dataclass(frozen=True)
class AudioCondition:
    """A corruption of the audio of a dataset."""

    label: str = ""
    """Name in the results (`white@10`); empty for audio as it is."""
    transform: AudioTransform | None = None
    identity: Mapping[str, JsonValue] = field(default_factory=dict)
    """Everything that the transform depends on: part of the cache key."""


UNCHANGED_AUDIO = AudioCondition()


@dataclass(frozen=True)
class EvalDataset:
    """Utterances to transcribe and score."""

    name: str
    spec: DatasetSpec
    utterances: tuple[Utterance, ...]
    scoring: Scoring
    sha256: str
    language: str
    """Language of all utterances; empty if there are several or none is known."""
    condition: AudioCondition = UNCHANGED_AUDIO

    @property
    def seconds(self) -> float:
        """Audio of all utterances, seconds."""
        return sum(utterance.audio.duration for utterance in self.utterances)

    @property
    def kind(self) -> str:
        """`non_speech`, `long_form` or `short_form`."""
        return "non_speech" if self.spec.non_speech else "long_form" if self.is_long_form else "short_form"

    @property
    def is_long_form(self) -> bool:
        """Whether most utterances are recordings over 30 s."""
        return 2 * len(self.short_utterances) < len(self.utterances)

    @property
    def short_utterances(self) -> tuple[Utterance, ...]:
        """Utterances up to 30 s."""
        return tuple(utterance for utterance in self.utterances if utterance.audio.duration <= WINDOW_SECONDS)


def load_dataset(name: str, spec: DatasetSpec, settings: EvaluateSettings) -> tuple[EvalDataset, dict[str, str]]:
    """A dataset, and notes on it by subject: skipped entries, missing references, mixed languages.

    Raises `CorpusError` where the corpus cannot be read or has no references.
    """
    language = spec.language or settings.language
    corpus = read_corpus(spec.manifest, layout=settings.layout, language=language, full_recordings=spec.full_recordings)
    notes = {f"{name}: {problem.source}": problem.reason for problem in corpus.skipped}
    patterns = spec.ids or ("*",)
    utterances = [u for u in corpus.utterances if any(fnmatchcase(u.id, pattern) for pattern in patterns)]
    if spec.non_speech:
        clips = [clip for utterance in utterances for clip in split_into_clips(utterance, spec.chunk_seconds)]
        utterances = [replace(clip, text="") for clip in clips]
    elif missing := sum(utterance.text is None for utterance in utterances):
        notes[name] = f"{missing} of {len(utterances)} utterances have no reference"
        utterances = [utterance for utterance in utterances if utterance.text is not None]
    if not utterances or not (spec.non_speech or any((utterance.text or "").strip() for utterance in utterances)):
        raise CorpusError(
            f"expected references in {spec.manifest}, got none; evaluate on a dataset with transcripts, or set "
            "non_speech = true in a suite"
        )
    limits = [limit for limit in (spec.limit, settings.limit) if limit is not None]
    utterances = sample_evenly(utterances[: spec.first], min(limits, default=None))
    languages = {utterance.language for utterance in utterances}
    language = next(iter(languages)) if len(languages) == 1 else None
    unit = common_error_rate_unit(languages)
    if settings.normalizer == "auto" and language is None and not spec.non_speech:
        notes[f"{name}: language"] = (
            f"{'several languages' if len(languages) > 1 else 'unknown language'}: scored with the basic normalizer, "
            f"by {unit}; make one dataset per language, state it with --language, or choose a --normalizer"
        )
    normalizer = normalizer_name_for(language) if settings.normalizer == "auto" else settings.normalizer
    scoring = Scoring(normalizer, unit, settings.seed, settings.bootstrap_resamples)
    return EvalDataset(name, spec, tuple(utterances), scoring, hash_utterances(utterances), language or ""), notes


def hash_utterances(utterances: Sequence[Utterance]) -> str:
    """Hash of a dataset: ids, transcripts, languages, spans and the content of audio files (for remote audio its
    address)."""
    paths = {utterance.audio.path for utterance in utterances}
    files = {path: file_sha256(Path(path)) if Path(path).is_file() else path for path in paths}
    digest = hashlib.sha256()
    for utterance in utterances:
        span = utterance.audio
        fields = [utterance.id, files[span.path], span.start, span.duration, utterance.text, utterance.language]
        digest.update(json.dumps(fields).encode() + b"\n")
    return digest.hexdigest()


def split_into_clips(utterance: Utterance, seconds: float | None) -> list[Utterance]:
    """Consecutive clips of `seconds`, the rest dropped; None: as few equal clips of at most 30 s as possible."""
    audio = utterance.audio
    seconds = seconds or audio.duration / ceil(audio.duration / WINDOW_SECONDS)
    if audio.duration <= seconds:
        return [utterance]
    clips = []
    for index in range(int(audio.duration / seconds + 1e-6)):
        span = replace(audio, start=audio.start + index * seconds, duration=seconds)
        clips.append(replace(utterance, id=f"{utterance.id}+{index * seconds:g}", audio=span))
    return clips


def sample_evenly(items: Sequence[Item], limit: int | None) -> list[Item]:
    """At most `limit` items, evenly spaced."""
    if limit is None or len(items) <= limit:
        return list(items)
    return [items[index * len(items) // limit] for index in range(limit)]
