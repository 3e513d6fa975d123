"""The sets of a suite: corpora, and which part of them is heard."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from math import ceil
from typing import TYPE_CHECKING, TypeVar

from whisperstill.errors import CorpusError
from whisperstill.records import Utterance
from whisperstill.stages.suite_file import SetAsked

if TYPE_CHECKING:
    from whisperstill.evaluate.measure import Scoring
    from whisperstill.stages.evaluate import EvaluateSettings

Item = TypeVar("Item")


@dataclass(frozen=True)
class Corpus:
    """A set that could be read."""

    name: str
    asked: SetAsked
    utterances: tuple[Utterance, ...]
    scoring: "Scoring"
    sha256: str
    language: str

    @property
    def long(self) -> bool:
        """Whether most of it is recordings of more than a window: then it is of the long form."""
        return 2 * len(self.short) < len(self.utterances)

    @property
    def short(self) -> tuple[Utterance, ...]:
        """What fits into a window."""
        from whisperstill.units import WINDOW_SECONDS

        return tuple(one for one in self.utterances if one.audio.duration <= WINDOW_SECONDS)


def read_set(name: str, asked: SetAsked, settings: "EvaluateSettings") -> tuple[Corpus, dict[str, str]]:
    """A set as a suite asks for it, and what is to be told of it. Raises `CorpusError` where nothing can be heard."""
    from whisperstill.corpus import read_corpus
    from whisperstill.evaluate.measure import Scoring
    from whisperstill.stages.outcomes import corpus_digest
    from whisperstill.text.normalise import normaliser_for, unit_for_all

    said = asked.language or settings.language
    read = read_corpus(asked.manifest, layout=settings.layout, language=said, whole=asked.whole)
    notes = {f"{name}: {one.source}": one.reason for one in read.skipped}
    utterances = list(read.utterances)
    if asked.ids:
        utterances = [one for one in utterances if any(fnmatchcase(one.id, like) for like in asked.ids)]
    if not asked.non_speech:
        written = [one for one in utterances if one.text is not None]
        if missing := len(utterances) - len(written):
            notes[name] = f"{missing} of {len(utterances)} utterances have no transcript"
        utterances = written
    if not utterances:
        raise CorpusError(f"expected utterances with transcripts in {asked.manifest}, found none")
    if not asked.non_speech and not any((one.text or "").strip() for one in utterances):
        raise CorpusError(f"expected transcripts in {asked.manifest}, found none (is it non_speech = true?)")
    if asked.non_speech:
        utterances = [replace(piece, text="") for one in utterances for piece in cut(one, asked.pieces)]
    utterances = spread(utterances, min(filter(None, (asked.limit, settings.limit)), default=None))
    languages = {one.language for one in utterances}
    language = next(iter(languages)) if len(languages) == 1 else None
    if settings.normaliser == "auto" and language is None and not asked.non_speech:
        notes[f"{name}: language"] = (
            f"several or none is stated: scored by the basic normaliser and by {unit_for_all(languages)}; make a set "
            "of each, or say which by language = 'en' of the set"
        )
    chosen = normaliser_for(language) if settings.normaliser == "auto" else settings.normaliser
    scoring = Scoring(chosen, unit_for_all(languages), settings.seed, settings.bootstrap_resamples)
    return Corpus(name, asked, tuple(utterances), scoring, corpus_digest(utterances), language or ""), notes


def cut(utterance: Utterance, seconds: float | None) -> list[Utterance]:
    """Pieces of so many seconds, one behind the other; what is left at the end, if it is shorter, is left out. None:
    as few equal ones as fit into windows."""
    from whisperstill.units import WINDOW_SECONDS

    audio = utterance.audio
    seconds = seconds or audio.duration / ceil(audio.duration / WINDOW_SECONDS)
    if audio.duration <= seconds:
        return [utterance]
    count = int(audio.duration / seconds + 1e-6)
    spans = [replace(audio, start=audio.start + at * seconds, duration=seconds) for at in range(count)]
    return [replace(utterance, id=f"{utterance.id}+{at * seconds:g}", audio=span) for at, span in enumerate(spans)]


def spread(utterances: Sequence[Item], limit: int | None) -> list[Item]:
    """At most `limit` of them, at even distances."""
    if limit is None or len(utterances) <= limit:
        return list(utterances)
    return [utterances[at * len(utterances) // limit] for at in range(limit)]
