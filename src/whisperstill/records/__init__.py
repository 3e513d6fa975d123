"""Typed records of the data path; each one wraps the one before:

Utterance -> Window -> PseudoLabel -> FilteredLabel -> TrainingExample -> TokenBatch -> LossSums -> Report
"""

from whisperstill.records.edit_counts import EditCounts
from whisperstill.records.pseudo_label import FilterDecision, FilteredLabel, LabelQuality, PseudoLabel
from whisperstill.records.utterance import AudioSpan, Skipped, Utterance, Window

__all__ = [
    "AudioSpan",
    "EditCounts",
    "FilterDecision",
    "FilteredLabel",
    "LabelQuality",
    "PseudoLabel",
    "Skipped",
    "Utterance",
    "Window",
]
