"""Pseudo-labels of windows, and filter decisions on them."""

from dataclasses import dataclass

from whisperstill.records.edit_counts import EditCounts
from whisperstill.records.utterance import Utterance, Window


@dataclass(frozen=True, slots=True)
class LabelQuality:
    """Quality statistics of the label of one utterance, the input of the filter rules."""

    utterance: Utterance
    token_start: int
    token_end: int
    """The utterance has the tokens `PseudoLabel.tokens[token_start:token_end]`."""
    text: str
    mean_logprob: float
    """Mean natural log-probability of its tokens; 0 without tokens."""
    min_logprob: float
    entropy: float
    """Mean entropy (nats) of the teacher's distribution at its tokens."""
    no_speech_prob: float
    """Probability of <|nospeech|> for the whole window."""
    compression_ratio: float
    """UTF-8 bytes divided by zlib-compressed bytes, as in openai/whisper."""
    ngram_repeats: int
    """Largest number of consecutive repeats of one n-gram; 1 when nothing repeats, 0 when empty."""
    tokens_per_second: float
    """Text tokens, without timestamps."""
    edits: EditCounts | None
    """Word edits against the normalized reference; None without reference."""


@dataclass(frozen=True, slots=True)
class PseudoLabel:
    """A window with the teacher's label."""

    window: Window
    language: str
    tokens: tuple[int, ...]
    """The teacher's greedy output, without start tokens and <|endoftext|>; timestamps if `timestamps`."""
    text: str
    ended: bool
    """Whether decoding ended with <|endoftext|> (False: it reached the maximum number of tokens)."""
    timestamps: bool
    quality: tuple[LabelQuality, ...]
    shard: str
    """Shard of the store that holds its top-k logits and states."""


@dataclass(frozen=True, slots=True)
class FilterDecision:
    """Whether an utterance is used for training, and why not."""

    keep: bool
    rule: str
    """Name of the first rule that dropped it; empty when kept."""
    value: float
    """Value the rule measured; 0 when kept."""
    weight: float = 1.0
    """Loss weight of its tokens, when kept."""


@dataclass(frozen=True, slots=True)
class FilteredLabel:
    """A pseudo-label with a filter decision per utterance."""

    label: PseudoLabel
    decisions: tuple[FilterDecision, ...]
    """In the order of `label.quality`."""
