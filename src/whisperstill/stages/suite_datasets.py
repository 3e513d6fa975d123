"""The sets of a suite: corpora, and which part of them is heard."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from math import ceil
from typing import TYPE_CHECKING, TypeVar

from whisperstill.errors import CorpusError
from whisperstill.records import Utterance
from whisperstill.stages.suite_spec import DatasetSpec

if TYPE_CHECKING:
    from whisperstill.evaluate.metrics import Scoring
    from whisperstill.stages.evaluate import EvaluateSettings

Item = TypeVar("Item")


@dataclass(frozen=True)
class EvalDataset:
    """A set that could be read."""

    name: str
    spec: DatasetSpec
    utterances: tuple[Utterance, ...]
    scoring: "Scoring"
    sha256: str
    language: str

    @property
    def is_long_form(self) -> bool:
        """Whether most of it is recordings of more than a window: then it is of the long form."""
        return 2 * len(self.short_utterances) < len(self.utterances)

    @property
    def short_utterances(self) -> tuple[Utterance, ...]:
        """What fits into a window."""
        from whisperstill.units import WINDOW_SECONDS

        return tuple(utterance for utterance in self.utterances if utterance.audio.duration <= WINDOW_SECONDS)


def load_dataset(name: str, spec: DatasetSpec, settings: "EvaluateSettings") -> tuple[EvalDataset, dict[str, str]]:
    """A set as a suite asks for it, and what is to be told of it. Raises `CorpusError` where nothing can be heard."""
    from whisperstill.corpus import read_corpus
    from whisperstill.evaluate.metrics import Scoring
    from whisperstill.stages.result_cache import hash_utterances
    from whisperstill.text.normalizers import common_error_rate_unit, normalizer_name_for

    default_language = spec.language or settings.language
    corpus = read_corpus(
        spec.manifest, layout=settings.layout, language=default_language, full_recordings=spec.full_recordings
    )
    notes = {f"{name}: {problem.source}": problem.reason for problem in corpus.skipped}
    utterances = list(corpus.utterances)
    if spec.ids:
        utterances = [
            utterance for utterance in utterances if any(fnmatchcase(utterance.id, pattern) for pattern in spec.ids)
        ]
    if not spec.non_speech:
        transcribed = [utterance for utterance in utterances if utterance.text is not None]
        if missing := len(utterances) - len(transcribed):
            notes[name] = f"{missing} of {len(utterances)} utterances have no transcript"
        utterances = transcribed
    if not utterances:
        raise CorpusError(f"expected utterances with transcripts in {spec.manifest}, found none")
    if not spec.non_speech and not any((utterance.text or "").strip() for utterance in utterances):
        raise CorpusError(f"expected transcripts in {spec.manifest}, found none (is it non_speech = true?)")
    if spec.non_speech:
        utterances = [
            replace(piece, text="")
            for utterance in utterances
            for piece in split_into_clips(utterance, spec.chunk_seconds)
        ]
    utterances = sample_evenly(utterances, min(filter(None, (spec.limit, settings.limit)), default=None))
    languages = {utterance.language for utterance in utterances}
    language = next(iter(languages)) if len(languages) == 1 else None
    if settings.normalizer == "auto" and language is None and not spec.non_speech:
        notes[f"{name}: language"] = (
            f"several or none is stated: scored by the basic normalizer and by {common_error_rate_unit(languages)}; "
            "make a dataset of each, or say which by language = 'en' of the dataset"
        )
    normalizer = normalizer_name_for(language) if settings.normalizer == "auto" else settings.normalizer
    scoring = Scoring(normalizer, common_error_rate_unit(languages), settings.seed, settings.bootstrap_resamples)
    return EvalDataset(name, spec, tuple(utterances), scoring, hash_utterances(utterances), language or ""), notes


def split_into_clips(utterance: Utterance, seconds: float | None) -> list[Utterance]:
    """Pieces of so many seconds, one behind the other; what is left at the end, if it is shorter, is left out. None:
    as few equal ones as fit into windows."""
    from whisperstill.units import WINDOW_SECONDS

    audio = utterance.audio
    seconds = seconds or audio.duration / ceil(audio.duration / WINDOW_SECONDS)
    if audio.duration <= seconds:
        return [utterance]
    count = int(audio.duration / seconds + 1e-6)
    spans = [replace(audio, start=audio.start + index * seconds, duration=seconds) for index in range(count)]
    return [
        replace(utterance, id=f"{utterance.id}+{index * seconds:g}", audio=span) for index, span in enumerate(spans)
    ]


def sample_evenly(utterances: Sequence[Item], limit: int | None) -> list[Item]:
    """At most `limit` of them, at even distances."""
    if limit is None or len(utterances) <= limit:
        return list(utterances)
    return [utterances[index * len(utterances) // limit] for index in range(limit)]
