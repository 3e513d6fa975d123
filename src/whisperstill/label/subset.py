"""Fewer hours out of many: which utterances are taken when only so many hours may teach.

Windows of the first packing are drawn whole, in the order of a hash of their names, so that what fewer hours hold is a
part of what more hours hold, and a window that teaches is full. The same utterances are kept in every packing.
"""

import hashlib
from collections.abc import Iterable, Set
from dataclasses import replace

from whisperstill.errors import SettingsError
from whisperstill.records import Utterance
from whisperstill.records.pseudo_label import FilterDecision, FilteredLabel

NOT_IN_SUBSET = "not_in_subset"
"""Rule of the verdict on utterances that the rules would keep and the draw leaves out."""


def select_subset(labels: Iterable[FilteredLabel], hours: float) -> Set[tuple[str, str]]:
    """(corpus, id) of utterances that make up at most so many hours of what is kept.

    Raises `SettingsError` for no hours at all.
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
    """The same verdicts, but for utterances that were not drawn."""
    decisions = []
    for quality, decision in zip(filtered.label.quality, filtered.decisions, strict=True):
        excluded = decision.keep and (quality.utterance.corpus, quality.utterance.id) not in subset
        decisions.append(FilterDecision(False, NOT_IN_SUBSET, 0.0) if excluded else decision)
    return replace(filtered, decisions=tuple(decisions))
