"""Each rule on both sides of its limit."""

import math
from dataclasses import fields
from typing import Any

import pytest

from whisperstill.errors import SettingsError
from whisperstill.label.filter_rules import KEEP, RULES, RuleSettings, apply_filter, decide
from whisperstill.records import EditCounts

from unit.label.builders import make_label, make_quality

DEFAULT = RuleSettings()
OFF = RuleSettings(
    max_wer=None,
    max_ngram_repeats=None,
    drop_empty=False,
    drop_all_caps=False,
    min_logprob=None,
    max_compression_ratio=None,
    max_tokens_per_second=None,
)

BAD: list[tuple[str, dict[str, Any], float]] = [
    ("empty", {"text": " "}, 0.0),
    ("repetition", {"ngram_repeats": 5}, 5.0),
    ("compression", {"compression_ratio": 2.5}, 2.5),
    ("tokens_per_second", {"tokens_per_second": 12.5}, 12.5),
    ("all_caps", {"text": "THIS IS ALL CAPITALS 42!"}, 4.0),
    ("low_logprob", {"mean_logprob": -1.25}, -1.25),
    ("wer", {"edits": EditCounts(89, 5, 6, 0)}, 11.0),
]
GOOD: list[dict[str, Any]] = [
    {},
    {"ngram_repeats": 4},
    {"compression_ratio": 2.4},
    {"tokens_per_second": 12.0},
    {"text": "NASA, USA"},
    {"text": "I B M X Y Z"},
    {"text": "42 17 23"},
    {"text": "THIS IS NEARLY ALl"},
    {"text": "今天天气 很好 啊啊"},
    {"mean_logprob": -1.0},
    {"edits": EditCounts(90, 5, 5, 0)},
    {"edits": None},
    {"edits": EditCounts(0, 0, 0, 0)},
]


@pytest.mark.parametrize(("rule", "changes", "value"), BAD, ids=[name for name, _, _ in BAD])
def test_each_rule_drops(rule: str, changes: dict[str, Any], value: float) -> None:
    decision = decide(make_quality(**changes), DEFAULT)
    assert (decision.keep, decision.rule, decision.value) == (False, rule, value)
    assert decide(make_quality(**changes), OFF) == KEEP  # negative control: no other rule drops it


@pytest.mark.parametrize("changes", GOOD, ids=str)
def test_a_value_at_the_limit_is_kept(changes: dict[str, Any]) -> None:
    assert decide(make_quality(**changes), DEFAULT) == KEEP


def test_every_rule_is_tested() -> None:
    assert {name for name, _ in RULES} == {name for name, _, _ in BAD} | {"no_reference"}


@pytest.mark.parametrize("percent", range(1, 101))
def test_wer_at_the_limit_is_kept_despite_rounding(percent: int) -> None:
    quality = make_quality(edits=EditCounts(100 - percent, percent, 0, 0))
    assert decide(quality, RuleSettings(max_wer=float(percent))).keep
    assert not decide(quality, RuleSettings(max_wer=percent - 0.5)).keep


def test_words_against_an_empty_reference_have_infinite_wer() -> None:
    decision = decide(make_quality(edits=EditCounts(0, 0, 0, 2)), DEFAULT)
    assert (decision.rule, decision.value) == ("wer", math.inf)


def test_utterances_without_reference_pass_unless_required() -> None:
    quality = make_quality(edits=None)
    assert decide(quality, RuleSettings(max_wer=0)).keep
    assert decide(quality, RuleSettings(require_reference=True)).rule == "no_reference"
    assert decide(make_quality(), RuleSettings(require_reference=True)).keep


def test_the_first_matching_rule_is_reported() -> None:
    everything: dict[str, Any] = {}
    for _, changes, _ in BAD:
        everything |= changes
    assert decide(make_quality(**everything | {"text": ""}), DEFAULT).rule == "empty"
    assert decide(make_quality(**everything), DEFAULT).rule == "repetition"


def test_a_window_keeps_its_good_utterances() -> None:
    window = make_label("w", make_quality("good"), make_quality("bad", text=""), make_quality("fine"))
    filtered = apply_filter(window, DEFAULT)
    assert filtered.label is window
    assert [decision.keep for decision in filtered.decisions] == [True, False, True]


def test_invalid_settings_are_listed() -> None:
    with pytest.raises(SettingsError) as caught:
        RuleSettings(max_wer=-1, max_ngram_repeats=0, min_logprob=1, max_tokens_per_second=math.nan)
    for name in ("max_wer", "max_ngram_repeats", "min_logprob", "max_tokens_per_second"):
        assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert RuleSettings(max_wer=math.inf).max_wer == math.inf
    assert [field for field in fields(RuleSettings) if field.default is None] == []
