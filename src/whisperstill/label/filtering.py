"""Filtering a whole label store: the rules per utterance, predicted WER, a subset of a given size, and the totals."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from whisperstill.errors import SettingsError
from whisperstill.label.filter_rules import RuleSettings, active_rules, apply_filter
from whisperstill.records import EditCounts, FilterDecision, FilteredLabel, LabelQuality, Utterance
from whisperstill.records.edit_counts import NO_EDITS
from whisperstill.text.normalizers import split_into_units

if TYPE_CHECKING:
    from whisperstill.label.store import LabelStore

PREDICTED_WER_RULE = "predicted_wer"
"""Rule name for utterances without a reference whose predicted WER is too high."""
NOT_IN_SUBSET = "not_in_subset"
"""Rule name for utterances that pass all rules and are outside the subset."""


def filter_labels(
    store: "LabelStore",
    rules: RuleSettings,
    predicted_wers: Sequence[float] | None,
    max_predicted_wer: float,
    weight_by_predicted_wer: bool,
) -> Iterator[FilteredLabel]:
    """All windows of a store with the decisions by rules and predicted WER.

    `predicted_wers` (per cent) has one value per utterance in the order of the store; it applies to utterances that
    have no reference. None skips that step.
    """
    remaining_wers = None if predicted_wers is None else iter(predicted_wers)
    for label in store.read_labels():
        filtered = apply_filter(label, rules)
        if remaining_wers is not None:
            pairs = zip(filtered.label.quality, filtered.decisions, remaining_wers, strict=False)
            decisions = tuple(
                _decide_by_predicted_wer(decision, float(wer), max_predicted_wer, weight_by_predicted_wer)
                if decision.keep and quality.edits is None
                else decision
                for quality, decision, wer in pairs
            )
            filtered = replace(filtered, decisions=decisions)
        yield filtered


def _decide_by_predicted_wer(
    decision: FilterDecision, predicted_wer: float, max_predicted_wer: float, weight_by_predicted_wer: bool
) -> FilterDecision:
    if predicted_wer > max_predicted_wer:
        return FilterDecision(False, PREDICTED_WER_RULE, predicted_wer)
    return replace(decision, weight=round(1 - predicted_wer / 100, 4)) if weight_by_predicted_wer else decision


def select_subset(labels: Iterable[FilteredLabel], hours: float) -> Set[tuple[str, str]]:
    """(corpus, id) of kept utterances that together are at most `hours` long.

    Whole windows of packing variant 0 are selected in the order of a hash of their ids, so a smaller subset is part of
    every larger one. Raises `SettingsError` for hours of 0 or less.
    """
    if not hours > 0:
        raise SettingsError(f"subset_hours must be above 0, got {hours:g}")
    utterances_by_window: dict[str, list[Utterance]] = {}
    for filtered in labels:
        window = filtered.label.window
        if window.packing_variant == 0:
            pairs = zip(filtered.label.quality, filtered.decisions, strict=True)
            utterances_by_window[window.id] = [quality.utterance for quality, decision in pairs if decision.keep]
    subset: set[tuple[str, str]] = set()
    seconds = 0.0
    for window_id in sorted(utterances_by_window, key=lambda window_id: hashlib.sha256(window_id.encode()).hexdigest()):
        seconds += sum(utterance.audio.duration for utterance in utterances_by_window[window_id])
        if seconds > hours * 3600:
            break
        subset |= {(utterance.corpus, utterance.id) for utterance in utterances_by_window[window_id]}
    return subset


def restrict_to_subset(filtered: FilteredLabel, subset: Set[tuple[str, str]]) -> FilteredLabel:
    """The window with every kept utterance outside the subset dropped, in all packing variants alike."""
    decisions = []
    for quality, decision in zip(filtered.label.quality, filtered.decisions, strict=True):
        excluded = decision.keep and (quality.utterance.corpus, quality.utterance.id) not in subset
        decisions.append(FilterDecision(False, NOT_IN_SUBSET, 0.0) if excluded else decision)
    return replace(filtered, decisions=tuple(decisions))


def count_words(quality: LabelQuality, language: str) -> int:
    """Words of the normalized reference, or of the label text if there is none (characters in unspaced languages)."""
    return len(split_into_units(quality.text, language)) if quality.edits is None else quality.edits.reference_length


@dataclass(slots=True)
class LabelCounts:
    """Totals over utterances."""

    utterances: int = 0
    seconds: float = 0.0
    words: int = 0
    edits: EditCounts = NO_EDITS

    def add(self, quality: LabelQuality, language: str) -> None:
        """Count one utterance with a label in this language."""
        self.utterances += 1
        self.seconds += quality.utterance.audio.duration
        self.words += count_words(quality, language)
        if quality.edits is not None:
            self.edits += quality.edits

    @property
    def hours(self) -> float:
        """Hours of audio."""
        return self.seconds / 3600

    @property
    def wer(self) -> float | None:
        """Word error rate of the labels against their references, per cent; None without reference words."""
        return 100 * self.edits.error_rate if self.edits.reference_length else None


class DecisionCounts:
    """Totals of all utterances, of those kept, and of those dropped by each rule."""

    def __init__(self) -> None:
        self.total = LabelCounts()
        rules = ("", *(name for name, _ in active_rules()), PREDICTED_WER_RULE, NOT_IN_SUBSET)
        self._by_rule = {rule: LabelCounts() for rule in rules}

    def add(self, filtered: FilteredLabel) -> None:
        """Count the utterances of a window."""
        for quality, decision in zip(filtered.label.quality, filtered.decisions, strict=True):
            self.total.add(quality, filtered.label.language)
            self._by_rule[decision.rule].add(quality, filtered.label.language)

    @property
    def kept(self) -> LabelCounts:
        """Totals of the kept utterances."""
        return self._by_rule[""]

    @property
    def dropped(self) -> dict[str, LabelCounts]:
        """Totals by rule, in the order the rules apply, without rules that dropped nothing."""
        return {rule: counts for rule, counts in self._by_rule.items() if rule and counts.utterances}
