"""Metrics of a system's output on a dataset: a `DatasetResult` from hypotheses and references.

All metrics derive from texts. Transcription is expensive and cached; metrics are computed anew in every run, so a new
metric needs no new transcription. Error rates are all edits over all reference words. An utterance whose reference is
empty after normalization adds nothing to the denominator, and its hypothesis counts as insertions, as in jiwer for a
list of sentences.
"""

import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, pairwise, starmap
from typing import Any

from whisperstill.errors import CorpusError
from whisperstill.evaluate.hallucination import compute_hallucination_metrics
from whisperstill.evaluate.intervals import bootstrap, bootstrap_blocks, paired_bootstrap
from whisperstill.records import Utterance
from whisperstill.records.edit_counts import NO_EDITS, EditCounts
from whisperstill.records.eval_results import DatasetResult, PairedDifference, SubsetResult
from whisperstill.text.edit_distance import AlignedPair, align, count_character_edits, count_edits
from whisperstill.text.normalizers import get_normalizer, split_into_characters

DURATION_BIN_EDGES_S = (2.0, 5.0, 10.0, 20.0, 30.0)
"""Upper ends of the duration ranges that are scored separately, seconds."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """Normalization and unit of error rates, and the bootstrap of their intervals."""

    normalizer: str
    unit: str = "word"
    """`word`, or `character` for languages without spaces, where the WER counts characters, as in openai/whisper."""
    seed: int = 0
    resamples: int = 1000

    def split(self, text: str) -> list[str]:
        """Words (or characters) of a text after normalization."""
        normalized = get_normalizer(self.normalizer)(text)
        return split_into_characters(normalized) if self.unit == "character" else normalized.split()


@dataclass(frozen=True, slots=True)
class Score:
    """Error rates in per cent, with 95 % bootstrap intervals."""

    edits: EditCounts
    """Word edits (character edits without spaces where `unit` is `character`)."""
    wer: float
    wer_low: float
    wer_high: float
    cer: float
    cer_low: float
    cer_high: float


def score(references: Sequence[str], hypotheses: Sequence[str], scoring: Scoring) -> Score:
    """Error rates after normalization of both sides.

    Raises `SettingsError` for an unknown normalizer, `ValueError` if no reference has a word left after normalization,
    or for different numbers of references and hypotheses.
    """
    seed, resamples, normalize = scoring.seed, scoring.resamples, get_normalizer(scoring.normalizer)
    words = [(scoring.split(ref), scoring.split(hyp)) for ref, hyp in zip(references, hypotheses, strict=True)]
    edits = list(starmap(count_edits, words))
    total = sum(edits, NO_EDITS)
    blocks = [block for counts, pair in zip(edits, words, strict=True) for block in bootstrap_blocks(counts, *pair)]
    wer_low, wer_high = bootstrap(blocks, seed=seed, resamples=resamples)
    character_edits = list(map(count_character_edits, map(normalize, references), map(normalize, hypotheses)))
    cer = 100 * sum(character_edits, NO_EDITS).error_rate
    cer_low, cer_high = bootstrap(character_edits, seed=seed, resamples=resamples)
    return Score(total, 100 * total.error_rate, wer_low, wer_high, cer, cer_low, cer_high)


@dataclass(frozen=True)
class SystemOutput:
    """Hypotheses of a system for the utterances of a dataset, in corpus order."""

    utterances: tuple[Utterance, ...]
    texts: tuple[str, ...]
    seconds: float
    """Wall-clock time of transcription."""
    scoring: Scoring

    @cached_property
    def references(self) -> list[list[str]]:
        """Reference words (or characters) after normalization."""
        return [self.scoring.split(utterance.text or "") for utterance in self.utterances]

    @cached_property
    def hypotheses(self) -> list[list[str]]:
        """Hypothesis words (or characters) after normalization."""
        return [self.scoring.split(text) for text in self.texts]

    @cached_property
    def alignments(self) -> list[list[AlignedPair]]:
        """Alignment of each utterance."""
        return list(map(align, self.references, self.hypotheses))

    @cached_property
    def edits(self) -> list[EditCounts]:
        """Edit counts of each utterance."""
        return list(map(count_edits, self.references, self.hypotheses))

    @cached_property
    def blocks_by_utterance(self) -> list[list[EditCounts]]:
        """Units of each utterance that the bootstrap resamples."""
        return list(map(bootstrap_blocks, self.edits, self.references, self.hypotheses))

    @property
    def blocks(self) -> list[EditCounts]:
        """Units of all utterances that the bootstrap resamples."""
        return list(chain.from_iterable(self.blocks_by_utterance))

    def restrict_to(self, ids: Set[str]) -> "SystemOutput":
        """Output for the utterances with these ids."""
        selected = [index for index, utterance in enumerate(self.utterances) if utterance.id in ids]
        utterances, texts = tuple(self.utterances[i] for i in selected), tuple(self.texts[i] for i in selected)
        return replace(self, utterances=utterances, texts=texts)


def compute_metrics(
    output: SystemOutput,
    *,
    measurement: str,
    model: str,
    dataset: str,
    decoding: str,
    teacher_output: SystemOutput | None = None,
) -> DatasetResult:
    """Metrics of an output; with `teacher_output`, the paired difference as well.

    A dataset without any reference word (non-speech audio) has error rates of 0; its insertions are in `hallucination`.
    """
    total = sum(output.edits, NO_EDITS)
    rates: dict[str, Any] = dict.fromkeys(("wer", "wer_low", "wer_high", "cer", "cer_low", "cer_high"), 0.0)
    wer_orthographic = 0.0
    if total.reference_length:
        references = [utterance.text or "" for utterance in output.utterances]
        scores = score(references, output.texts, output.scoring)
        rates = {name: getattr(scores, name) for name in rates}
        unnormalized = replace(output, scoring=replace(output.scoring, normalizer="none"))
        wer_orthographic = 100 * sum(unnormalized.edits, NO_EDITS).error_rate
    difference, agreement = compare_with_teacher(output, teacher_output) if teacher_output is not None else (None, None)
    return DatasetResult(
        measurement=measurement,
        model=model,
        dataset=dataset,
        decoding=decoding,
        **rates,
        wer_orthographic=wer_orthographic,
        substitutions=total.substitutions,
        deletions=total.deletions,
        insertions=total.insertions,
        words=total.reference_length,
        utterances=len(output.utterances),
        hours=sum(utterance.audio.duration for utterance in output.utterances) / 3600,
        seconds=output.seconds,
        hallucination=compute_hallucination_metrics(output.references, output.hypotheses, output.alignments),
        difference_to_teacher=difference,
        agreement_with_teacher=agreement,
        by_speaker=subset_results(output, lambda utterance: utterance.speaker),
        by_duration=subset_results(output, duration_bin),
        utterance_errors=tuple(block.errors for block in output.blocks),
        utterance_words=tuple(block.reference_length for block in output.blocks),
    )


def compare_with_teacher(
    output: SystemOutput, teacher_output: SystemOutput
) -> tuple[PairedDifference | None, float | None]:
    """Difference to the teacher, and share of equal texts in per cent, over utterances that both transcribed.

    None where there is no such utterance, or no reference word.
    """
    # 1. Restrict both to common utterances.
    shared_ids = {utterance.id for utterance in output.utterances} & {u.id for u in teacher_output.utterances}
    student, teacher = output.restrict_to(shared_ids), teacher_output.restrict_to(shared_ids)
    if not shared_ids:
        return None, None
    agreement = 100 * sum(map(list.__eq__, student.hypotheses, teacher.hypotheses)) / len(shared_ids)
    if not sum(student.edits, NO_EDITS).reference_length:
        return None, agreement
    # 2. Resample both with the same indices.
    scoring = output.scoring
    difference = paired_bootstrap(student.blocks, teacher.blocks, seed=scoring.seed, resamples=scoring.resamples)
    return difference, agreement


def subset_results(output: SystemOutput, subset_of: Callable[[Utterance], str | None]) -> tuple[SubsetResult, ...]:
    """Error rates of the subsets named by `subset_of`; empty if there are fewer than two."""
    subsets: dict[str, list[list[EditCounts]]] = {}
    for utterance, utterance_blocks in zip(output.utterances, output.blocks_by_utterance, strict=True):
        if (name := subset_of(utterance)) is not None:
            subsets.setdefault(name, []).append(utterance_blocks)
    if len(subsets) < 2:
        return ()
    results, scoring = [], output.scoring
    for name in sorted(subsets, key=natural_sort_key):
        blocks = list(chain.from_iterable(subsets[name]))
        total = sum(blocks, NO_EDITS)
        if words := total.reference_length:
            interval = bootstrap(blocks, seed=scoring.seed, resamples=scoring.resamples)
            results.append(SubsetResult(name, len(subsets[name]), words, 100 * total.error_rate, *interval))
    return tuple(results)


def duration_bin(utterance: Utterance) -> str:
    """Duration range of an utterance: `5-10 s`, above the last edge `over 30 s`."""
    for lower, upper in pairwise((0.0, *DURATION_BIN_EDGES_S)):
        if utterance.audio.duration <= upper:
            return f"{lower:g}-{upper:g} s"
    return f"over {DURATION_BIN_EDGES_S[-1]:g} s"


def natural_sort_key(name: str) -> tuple[int, float, str]:
    """Sort key: duration ranges (`5-10 s`) by their lower bound, then other names alphabetically."""
    match = re.match(r"(over )?(\d+(\.\d+)?)", name)
    return (0, float(match[2]) + bool(match[1]), name) if match else (1, 0.0, name)


def in_corpus_order(
    utterances: Sequence[Utterance], texts: Mapping[str, str], seconds: float, scoring: Scoring
) -> SystemOutput:
    """Output for the utterances that have a text, in corpus order. Raises `CorpusError` if none has."""
    transcribed = tuple(utterance for utterance in utterances if utterance.id in texts)
    if not transcribed:
        raise CorpusError(f"expected at least one readable utterance, got none of {len(utterances)}")
    return SystemOutput(transcribed, tuple(texts[utterance.id] for utterance in transcribed), seconds, scoring)
