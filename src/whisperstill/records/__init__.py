"""The typed records that travel. One record, by wrapping:

Utterance -> Window -> Labelled -> Judged -> Example -> Batch -> LossSums -> Report
"""

from whisperstill.records.edits import EditCounts
from whisperstill.records.labelled import Judged, Labelled, UtteranceEvidence, Verdict
from whisperstill.records.utterance import AudioSpan, Skipped, Utterance, Window

__all__ = [
    "AudioSpan",
    "EditCounts",
    "Judged",
    "Labelled",
    "Skipped",
    "Utterance",
    "UtteranceEvidence",
    "Verdict",
    "Window",
]
