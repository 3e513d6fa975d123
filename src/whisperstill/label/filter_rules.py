"""The filter's rules: one function each, from the evidence of an utterance to the figure that drops it.

A rule gives None to keep an utterance, or the figure it measured when that figure drops it. To add a rule: one
function here, one field in `RuleSettings`, one line in `RULES`, one test.

The rules that name what is wrong stand first and the word error rate, which sees that something is wrong, last: so
the count of reasons tells a looping teacher from a wrong reference.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from whisperstill.errors import SettingsError
from whisperstill.plugins import registered
from whisperstill.records.edit_counts import EditCounts
from whisperstill.records.pseudo_label import FilterDecision, FilteredLabel, LabelQuality, PseudoLabel


@dataclass(frozen=True, slots=True)
class RuleSettings:
    """What may teach the student. None or False switches a rule off."""

    max_wer: float | None = 10.0
    """Most word errors of the teacher against the reference, in per cent, after normalisation (the paper's λ; 10
    there). Utterances without a reference pass. At exactly this rate they are kept."""
    require_reference: bool = False
    """Drop utterances that have no reference."""
    max_ngram_repeats: int | None = 4
    """Most times in a row that one group of 1 to 8 words (2 to 24 characters in languages without spaces) may stand;
    references of read speech stay at 3 or below."""
    drop_empty: bool = True
    """Drop utterances in which the teacher heard nothing; `--no-drop-empty` keeps them."""
    drop_all_caps: bool = True
    """Drop texts of three and more words that are all in capitals: the teacher fell into the style of subtitles;
    `--no-drop-all-caps` keeps them."""
    min_logprob: float | None = -1.0
    """Least mean natural-log probability of the teacher's tokens; the value openai/whisper falls back at."""
    max_compression_ratio: float | None = 2.4
    """Most UTF-8 bytes over zlib bytes; the value openai/whisper falls back at."""
    max_tokens_per_second: float | None = 12.0
    """Most text tokens a second: twice what the fastest of our reference speech has. Scripts that Whisper spells
    byte by byte (Amharic, Burmese, ...) may need more."""

    def __post_init__(self) -> None:
        problems = []
        for name in ("max_wer", "max_compression_ratio", "max_tokens_per_second"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                problems.append(f"{name} must be 0 or more, got {value}")
        if self.max_ngram_repeats is not None and self.max_ngram_repeats < 1:
            problems.append(f"max_ngram_repeats must be 1 or more, got {self.max_ngram_repeats}")
        if self.min_logprob is not None and not self.min_logprob <= 0:
            problems.append(
                f"min_logprob is the logarithm of a probability: it must be 0 or less, got {self.min_logprob}"
            )
        if problems:
            raise SettingsError("; ".join(problems))


Rule: TypeAlias = Callable[[LabelQuality, RuleSettings], float | None]


def empty(quality: LabelQuality, settings: RuleSettings) -> float | None:
    """Nothing was heard. Measures the number of words, 0."""
    return 0.0 if settings.drop_empty and not quality.text.strip() else None


def repetition(quality: LabelQuality, settings: RuleSettings) -> float | None:
    """A group of words stands too many times in a row. Measures how many."""
    return _value_if_above(quality.ngram_repeats, settings.max_ngram_repeats)


def compression(quality: LabelQuality, settings: RuleSettings) -> float | None:
    """The text repeats itself as a whole. Measures the compression ratio."""
    return _value_if_above(quality.compression_ratio, settings.max_compression_ratio)


def tokens_per_second(quality: LabelQuality, settings: RuleSettings) -> float | None:
    """More was heard than can be said in the time. Measures text tokens a second."""
    return _value_if_above(quality.tokens_per_second, settings.max_tokens_per_second)


def all_caps(quality: LabelQuality, settings: RuleSettings) -> float | None:
    """Everything is in capitals. Measures the number of words in capitals; spelled letters (`I B M`) are none."""
    if not settings.drop_all_caps or not quality.text.isupper():
        return None
    num_caps_words = sum(sum(c.isalpha() for c in word) > 1 for word in quality.text.split())
    return float(num_caps_words) if num_caps_words >= 3 else None


def low_logprob(quality: LabelQuality, settings: RuleSettings) -> float | None:
    """The teacher was unsure. Measures its mean log-probability."""
    if settings.min_logprob is None or quality.mean_logprob >= settings.min_logprob:
        return None
    return quality.mean_logprob


def no_reference(quality: LabelQuality, settings: RuleSettings) -> float | None:
    """There is no reference to check against. Measures the number of references, 0."""
    return 0.0 if settings.require_reference and quality.edits is None else None


def wer(quality: LabelQuality, settings: RuleSettings) -> float | None:
    """The teacher heard other words than the reference has. Measures the word error rate in per cent.

    Infinite where words were heard against a reference that normalises to nothing.
    """
    return None if quality.edits is None else _value_if_above(wer_percent(quality.edits), settings.max_wer)


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
"""Name and function of every rule, in the order in which they are asked."""


def active_rules() -> tuple[tuple[str, Rule], ...]:
    """`RULES`, with those registered by other packages (`plugins`) before the last, the word error rate."""
    return (*RULES[:-1], *registered("filter_rules").items(), RULES[-1])


KEEP = FilterDecision(keep=True, rule="", value=0.0)


def decide(quality: LabelQuality, settings: RuleSettings) -> FilterDecision:
    """What the rules say of one utterance: the first rule that drops it names the reason."""
    for name, rule in active_rules():
        value = rule(quality, settings)
        if value is not None:
            return FilterDecision(keep=False, rule=name, value=value)
    return KEEP


def apply_filter(label: PseudoLabel, settings: RuleSettings) -> FilteredLabel:
    """A labelled window with a verdict for each of its utterances; bad ones do not drag down good ones."""
    return FilteredLabel(label, tuple(decide(quality, settings) for quality in label.quality))


def wer_percent(edits: EditCounts) -> float:
    """Word error rate in per cent, multiplied before it is divided: 7 in 100 is 7, not 7.000000000000001."""
    return 100 * edits.errors / edits.reference_length if edits.reference_length else 100 * edits.error_rate


def _value_if_above(value: float, limit: float | None) -> float | None:
    return None if limit is None or value <= limit else float(value)
