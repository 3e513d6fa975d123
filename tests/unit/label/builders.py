"""Evidence for these tests: a good utterance, and what to change about it."""

from dataclasses import replace
from typing import Any

from whisperstill.records import AudioSpan, EditCounts, Labelled, Utterance, UtteranceEvidence, Window


def evidence(name: str = "u", duration: float = 3.0, **changes: Any) -> UtteranceEvidence:
    """An utterance that every rule keeps, with changes."""
    good = UtteranceEvidence(
        utterance=Utterance(name, "corpus", AudioSpan("a.wav", 0.0, duration), "a good day", "en", None, None),
        first_token=0,
        last_token=4,
        text="A good day.",
        mean_logprob=-0.2,
        min_logprob=-1.0,
        entropy=0.5,
        no_speech=0.01,
        compression_ratio=0.8,
        longest_repeat=1,
        tokens_per_second=3.0,
        edits=EditCounts(100, 0, 0, 0),
    )
    return replace(good, **changes)


def labelled(window: str, *seen: UtteranceEvidence) -> Labelled:
    """A window of these utterances."""
    return Labelled(
        window=Window(window, tuple(each.utterance for each in seen), 0),
        language="en",
        tokens=(1, 2, 3, 4),
        text=" ".join(each.text for each in seen),
        ended=True,
        timestamps=False,
        evidence=seen,
        shard="00000",
    )
