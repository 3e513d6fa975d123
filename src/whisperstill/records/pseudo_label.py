"""What the teacher left behind about a window, and what the filter made of it."""

from dataclasses import dataclass

from whisperstill.records.edit_counts import EditCounts
from whisperstill.records.utterance import Utterance, Window


@dataclass(frozen=True, slots=True)
class LabelQuality:
    """How the teacher did on one utterance of a window: what a filter rule may look at."""

    utterance: Utterance
    token_start: int
    token_end: int
    """`PseudoLabel.tokens[token_start:token_end]` are this utterance's."""
    text: str
    """What the teacher heard."""
    mean_logprob: float
    """Mean natural-log probability of its tokens; 0 where it has none."""
    min_logprob: float
    entropy: float
    """Mean entropy (nats) of the teacher's distribution at its tokens."""
    no_speech_prob: float
    """Probability of <|nospeech|> for the whole window."""
    compression_ratio: float
    """UTF-8 bytes over zlib-compressed bytes, as openai/whisper defines it."""
    ngram_repeats: int
    """Most times in a row that one group of 1 to 8 words stands; 1 when nothing repeats, 0 when empty."""
    tokens_per_second: float
    edits: EditCounts | None
    """Word edits against the reference after normalisation; None where there is no reference."""


@dataclass(frozen=True, slots=True)
class PseudoLabel:
    """A window after the one visit of the teacher."""

    window: Window
    language: str
    tokens: tuple[int, ...]
    """The teacher's greedy output: no start tokens, no end token; timestamps where they were asked for."""
    text: str
    ended: bool
    """Whether the teacher ended by itself (False: cut at the most tokens a window may have)."""
    timestamps: bool
    """Whether the teacher decoded with timestamps."""
    quality: tuple[LabelQuality, ...]
    shard: str
    """Shard of the store that holds its top-k and states."""


@dataclass(frozen=True, slots=True)
class FilterDecision:
    """Whether an utterance may teach the student."""

    keep: bool
    rule: str
    """Name of the first rule that dropped it; empty when kept."""
    value: float
    """The measured figure that the rule looked at; 0 when kept."""
    weight: float = 1.0
    """How much each of its tokens counts in the loss, when kept."""


@dataclass(frozen=True, slots=True)
class FilteredLabel:
    """A labelled window with a verdict per utterance."""

    label: PseudoLabel
    decisions: tuple[FilterDecision, ...]
