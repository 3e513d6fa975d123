"""Builders of quality statistics and pseudo-labels."""

from dataclasses import replace
from typing import Any

from whisperstill.records import AudioSpan, EditCounts, LabelQuality, PseudoLabel, Utterance, Window


def make_quality(name: str = "u", duration: float = 3.0, **changes: Any) -> LabelQuality:
    """Statistics that every rule keeps, with changes."""
    good = LabelQuality(
        utterance=Utterance(name, "corpus", AudioSpan("a.wav", 0.0, duration), "a good day", "en", None, None),
        token_start=0,
        token_end=4,
        text="A good day.",
        mean_logprob=-0.2,
        min_logprob=-1.0,
        entropy=0.5,
        no_speech_prob=0.01,
        compression_ratio=0.8,
        ngram_repeats=1,
        tokens_per_second=3.0,
        edits=EditCounts(100, 0, 0, 0),
    )
    return replace(good, **changes)


def make_label(window: str, *quality: LabelQuality) -> PseudoLabel:
    """A pseudo-label of a window with these utterances."""
    return PseudoLabel(
        window=Window(window, tuple(entry.utterance for entry in quality), 0),
        language="en",
        tokens=(1, 2, 3, 4),
        text=" ".join(entry.text for entry in quality),
        ended=True,
        timestamps=False,
        quality=quality,
        shard="00000",
    )
