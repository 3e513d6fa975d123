"""Filter rules: one function per rule, from the quality statistics of an utterance to a decision.

A rule returns None to keep an utterance, or the value it measured to drop it. To add a rule: one function here, one
field in `RuleSettings`, one line in `RULES`, one test.

Rules with a specific cause come first and the word error rate, which has many causes, last: the counts by rule then
distinguish a looping teacher from a wrong reference.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from whisperstill.errors import SettingsError
from whisperstill.plugins import PluginGroup
from whisperstill.records.edit_counts import EditCounts
from whisperstill.records.pseudo_label import FilterDecision, FilteredLabel, LabelQuality, PseudoLabel


@dataclass(frozen=True, slots=True)
class RuleSettings:
    """Rules for pseudo-labels. None or False switches a rule off."""

    max_wer: float | None = 10.0
    """WER threshold λ: maximum word error rate of the label against the normalized reference, per cent (paper: 10).
    Utterances without a reference pass."""
    require_reference: bool = False
    """Reference required: drop utterances without one."""
    max_ngram_repeats: int | None = 4
    """Maximum consecutive repeats of one n-gram of 1 to 8 words (2 to 24 characters in unspaced languages); references
    of read speech have at most 3."""
    drop_empty: bool = True
    """Drop empty labels."""
    drop_all_caps: bool = True
    """Drop labels of three or more words all in upper case, a sign of subtitles."""
    min_logprob: float | None = -1.0
    """Minimum mean log-probability of the label's tokens (`logprob_threshold` of openai/whisper)."""
    max_compression_ratio: float | None = 2.4
    """Maximum ratio of UTF-8 bytes to zlib bytes (`compression_ratio_threshold` of openai/whisper)."""
    max_tokens_per_second: float | None = 12.0
    """Maximum text tokens per second; the default is twice that of the fastest reference speech. Scripts that Whisper
    encodes byte by byte (Amharic, Burmese, ...) may need more."""

    def __post_init__(self) -> None:
        problems = []
        for name in ("max_wer", "max_compression_ratio", "max_tokens_per_second"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                problems.append(f"{name} must be 0 or more, got {value}")
        if self.max_ngram_repeats is not None and self.max_ngram_repeats < 1:
            problems.append(f"max_ngram_repeats must be 1 or more, got {self.max_ngram_repeats}")
        if self.min_logprob is not None and not self.min_logprob <= 0:
            problems.append(f"min_logprob must be 0 or less (a log-probability), got {self.min_logprob}")
        if problems:
            raise SettingsError("; ".join(problems))


Rule: TypeAlias = Callable[[LabelQuality, RuleSettings], float | None]


def empty(quality: LabelQuality, settings: RuleSettings) -> float | None:
    """Empty label; the value is the number of words, 0."""
    return 0.0 if settings.drop_empty and not quality.text.strip() else None


def repetition(quality: LabelQuality, settings: RuleSettings) -> float | None:
    """An n-gram repeats too often; the value is the number of consecutive repeats."""
    return _value_if_above(quality.ngram_repeats, settings.max_ngram_repeats)


def compression(quality: LabelQuality, settings: RuleSettings) -> float | None:
    """The text is repetitive; the value is its compression ratio."""
    return _value_if_above(quality.compression_ratio, settings.max_compression_ratio)


def tokens_per_second(quality: LabelQuality, settings: RuleSettings) -> float | None:
    """More text than the duration allows; the value is text tokens per second."""
    return _value_if_above(quality.tokens_per_second, settings.max_tokens_per_second)


def all_caps(quality: LabelQuality, settings: RuleSettings) -> float | None:
    """All upper case; the value is the number of upper-case words (single letters as in `I B M` do not count)."""
    if not settings.drop_all_caps or not quality.text.isupper():
        return None
    num_caps_words = sum(sum(c.isalpha() for c in word) > 1 for word in quality.text.split())
    return float(num_caps_words) if num_caps_words >= 3 else None


def low_logprob(quality: LabelQuality, settings: RuleSettings) -> float | None:
    """Low confidence of the teacher; the value is the mean log-probability."""
    if settings.min_logprob is None or quality.mean_logprob >= settings.min_logprob:
        return None
    return quality.mean_logprob


def no_reference(quality: LabelQuality, settings: RuleSettings) -> float | None:
    """No reference; the value is the number of references, 0."""
    return 0.0 if settings.require_reference and quality.edits is None else None


def wer(quality: LabelQuality, settings: RuleSettings) -> float | None:
    """The label differs from the reference; the value is the word error rate in per cent.

    It is infinite when the label has words and the normalized reference has none.
    """
    return None if (value := reference_wer(quality)) is None else _value_if_above(value, settings.max_wer)


RULES: tuple[tuple[str, Rule], ...] = (
    ("empty", empty),
    ("repetition", repetition),
    ("compression", compression),
    ("tokens_per_second", tokens_per_second),
    ("all_caps", all_caps),
    ("low_logprob", low_logprob),
    ("no_reference", no_reference),
    ("wer", wer),
)
"""Name and function of every rule, in the order they are applied."""


def active_rules() -> tuple[tuple[str, Rule], ...]:
    """`RULES`, with those registered by other packages (`plugins`) before the last, the word error rate."""
    return (*RULES[:-1], *PluginGroup[Rule]("filter_rules").load().items(), RULES[-1])


KEEP = FilterDecision(keep=True, rule="", value=0.0)


def decide(quality: LabelQuality, settings: RuleSettings) -> FilterDecision:
    """Decision on one utterance, by the first rule that drops it."""
    for name, rule in active_rules():
        value = rule(quality, settings)
        if value is not None:
            return FilterDecision(keep=False, rule=name, value=value)
    return KEEP


def apply_filter(label: PseudoLabel, settings: RuleSettings) -> FilteredLabel:
    """The label of a window with a decision per utterance."""
    return FilteredLabel(label, tuple(decide(quality, settings) for quality in label.quality))


def reference_wer(quality: LabelQuality) -> float | None:
    """Word error rate against the reference, per cent; None without reference."""
    return None if quality.edits is None else wer_percent(quality.edits)


def wer_percent(edits: EditCounts) -> float:
    """Word error rate in per cent; multiplied before dividing, so that 7 in 100 is exactly 7."""
    return 100 * edits.errors / edits.reference_length if edits.reference_length else 100 * edits.error_rate


def _value_if_above(value: float, limit: float | None) -> float | None:
    return None if limit is None or value <= limit else float(value)
