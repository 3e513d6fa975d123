"""What one model heard on one set, turned into the figures of a `DatasetResult`.

Everything is derived from texts: decoding is the expensive part and is kept; scoring is done again whenever a report
is made, so that a better figure needs no decoding.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import starmap

from whisperstill.errors import CorpusError
from whisperstill.evaluate.hallucination import compute_hallucination_metrics
from whisperstill.evaluate.intervals import bootstrap, bootstrap_blocks, paired_bootstrap
from whisperstill.evaluate.score import score, utterance_edits
from whisperstill.records import Utterance
from whisperstill.records.edit_counts import NO_EDITS, EditCounts
from whisperstill.records.eval_results import DatasetResult, HallucinationMetrics, PairedDifference, SubsetResult
from whisperstill.text.edit_distance import AlignedPair, align, count_edits
from whisperstill.text.normalizers import get_normalizer, split_into_characters

DURATION_BIN_EDGES_S = (2.0, 5.0, 10.0, 20.0, 30.0)
"""Ends of the ranges of duration that are scored apart, seconds."""
MIN_SUBSETS = 2


@dataclass(frozen=True, slots=True)
class Scoring:
    """How texts are made comparable, and how sure the result is."""

    normalizer: str
    unit: str
    seed: int = 0
    resamples: int = 1000

    def split(self, text: str) -> list[str]:
        """A text's units after normalisation."""
        normalized = get_normalizer(self.normalizer)(text)
        return split_into_characters(normalized) if self.unit == "character" else normalized.split()


@dataclass(frozen=True)
class SystemOutput:
    """Utterances with what a model heard in them, in corpus order."""

    utterances: tuple[Utterance, ...]
    texts: tuple[str, ...]
    seconds: float
    """Time it took."""
    scoring: Scoring

    @cached_property
    def references(self) -> list[list[str]]:
        """Words (or characters) after normalisation."""
        return [self.scoring.split(utterance.text or "") for utterance in self.utterances]

    @cached_property
    def hypotheses(self) -> list[list[str]]:
        """The same of what was heard."""
        return [self.scoring.split(text) for text in self.texts]

    @cached_property
    def alignments(self) -> list[list[AlignedPair]]:
        """Which word of the reference became which."""
        return [
            align(reference, hypothesis) for reference, hypothesis in zip(self.references, self.hypotheses, strict=True)
        ]

    @cached_property
    def edits(self) -> list[EditCounts]:
        """Counts of each utterance."""
        return [
            count_edits(reference, hypothesis)
            for reference, hypothesis in zip(self.references, self.hypotheses, strict=True)
        ]

    @cached_property
    def blocks_by_utterance(self) -> list[list[EditCounts]]:
        """Of each utterance what a bootstrap draws."""
        return list(starmap(bootstrap_blocks, zip(self.edits, self.references, self.hypotheses, strict=True)))

    @property
    def blocks(self) -> list[EditCounts]:
        """All that a bootstrap draws from."""
        return [block for utterance_blocks in self.blocks_by_utterance for block in utterance_blocks]

    def restrict_to(self, ids: Mapping[str, object]) -> "SystemOutput":
        """The utterances with these ids."""
        selected = [(u, text) for u, text in zip(self.utterances, self.texts, strict=True) if u.id in ids]
        return SystemOutput(
            tuple(u for u, _ in selected), tuple(text for _, text in selected), self.seconds, self.scoring
        )


def compute_metrics(
    output: SystemOutput,
    *,
    measurement: str,
    model: str,
    dataset: str,
    decoding: str,
    condition: str = "",
    chunk_length: float = 0.0,
    teacher_output: SystemOutput | None = None,
) -> DatasetResult:
    """The figures of a cell; with `teacher_output`, what is between the two.

    A set without any reference word (nobody speaks in it) has error rates of 0 and its insertions in `hallucination`.
    """
    scoring = output.scoring
    rates = dict.fromkeys(("wer", "wer_low", "wer_high", "cer", "cer_low", "cer_high"), 0.0)
    total = sum(output.edits, NO_EDITS)
    wer_orthographic = 0.0
    references = [utterance.text or "" for utterance in output.utterances]
    if total.reference_length:
        scored = score(
            references,
            output.texts,
            normalizer=scoring.normalizer,
            unit=scoring.unit,
            seed=scoring.seed,
            resamples=scoring.resamples,
        )
        rates = {name: getattr(scored, name) for name in rates}
        if len(output.blocks) > len(output.edits):
            interval = bootstrap(output.blocks, seed=scoring.seed, resamples=scoring.resamples)
            rates |= {"wer_low": 100 * interval.low, "wer_high": 100 * interval.high}
        orthographic_edits = sum(
            utterance_edits(references, output.texts, normalizer="none", unit=scoring.unit), NO_EDITS
        )
        wer_orthographic = 100 * orthographic_edits.error_rate
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
        hallucination=hallucination_metrics(output),
        condition=condition,
        chunk_length=chunk_length,
        difference_to_teacher=difference,
        agreement_with_teacher=agreement,
        by_speaker=subset_results(output, lambda utterance: utterance.speaker),
        by_duration=subset_results(output, duration_bin),
        utterance_errors=tuple(block.errors for block in output.blocks),
        utterance_words=tuple(block.reference_length for block in output.blocks),
    )


def hallucination_metrics(output: SystemOutput) -> HallucinationMetrics:
    """See `evaluate.hallucination`."""
    return compute_hallucination_metrics(output.references, output.hypotheses, output.alignments)


def compare_with_teacher(
    output: SystemOutput, teacher_output: SystemOutput
) -> tuple[PairedDifference | None, float | None]:
    """Difference to the teacher with its interval, and the share of equal texts, on what both could hear."""
    output_ids, teacher_ids = (
        {utterance.id: None for utterance in output.utterances},
        {utterance.id: None for utterance in teacher_output.utterances},
    )
    a, b = output.restrict_to(teacher_ids), teacher_output.restrict_to(output_ids)
    if not a.utterances:
        return None, None
    agreement = 100 * sum(map(list.__eq__, a.hypotheses, b.hypotheses)) / len(a.hypotheses)
    if not sum(a.edits, NO_EDITS).reference_length:
        return None, agreement
    difference = paired_bootstrap(a.blocks, b.blocks, seed=output.scoring.seed, resamples=output.scoring.resamples)
    return PairedDifference(
        100 * difference.difference, 100 * difference.low, 100 * difference.high, difference.p_value
    ), agreement


def subset_results(output: SystemOutput, subset_of: Callable[[Utterance], str | None]) -> tuple[SubsetResult, ...]:
    """Error rates of the parts that `subset_of` puts utterances in, where there is more than one part."""
    blocks_by_subset: dict[str, list[EditCounts]] = {}
    utterance_counts: Counter[str] = Counter()
    for utterance, utterance_blocks in zip(output.utterances, output.blocks_by_utterance, strict=True):
        name = subset_of(utterance)
        if name is not None:
            blocks_by_subset.setdefault(name, []).extend(utterance_blocks)
            utterance_counts[name] += 1
    if len(blocks_by_subset) < MIN_SUBSETS:
        return ()
    results = []
    for name, blocks in sorted(blocks_by_subset.items(), key=lambda item: natural_sort_key(item[0])):
        total = sum(blocks, NO_EDITS)
        if not total.reference_length:
            continue
        interval = bootstrap(blocks, seed=output.scoring.seed, resamples=output.scoring.resamples)
        results.append(
            SubsetResult(
                name,
                utterance_counts[name],
                total.reference_length,
                100 * total.error_rate,
                100 * interval.low,
                100 * interval.high,
            )
        )
    return tuple(results)


def duration_bin(utterance: Utterance) -> str:
    """`5-10 s`; above the last range `over 30 s`."""
    lower = 0.0
    for upper in DURATION_BIN_EDGES_S:
        if utterance.audio.duration <= upper:
            return f"{lower:g}-{upper:g} s"
        lower = upper
    return f"over {lower:g} s"


def natural_sort_key(name: str) -> tuple[int, float, str]:
    """Ranges by their number, names by their letters."""
    match = re.match(r"(over )?(\d+(\.\d+)?)", name)
    return (0, float(match[2]) + bool(match[1]), name) if match else (1, 0.0, name)


def in_corpus_order(
    utterances: Sequence[Utterance], texts: Mapping[str, str], seconds: float, scoring: Scoring
) -> SystemOutput:
    """What was heard, in corpus order, without what could not be. Raises `CorpusError` when that is everything."""
    transcribed = tuple(utterance for utterance in utterances if utterance.id in texts)
    if not transcribed:
        raise CorpusError(f"expected at least one utterance that can be read, found none of {len(utterances)}")
    return SystemOutput(transcribed, tuple(texts[utterance.id] for utterance in transcribed), seconds, scoring)
