"""Subsets of a given number of hours."""

import pytest

from whisperstill.errors import SettingsError
from whisperstill.label.filter_rules import RuleSettings, apply_filter
from whisperstill.label.filtering import NOT_IN_SUBSET, restrict_to_subset, select_subset
from whisperstill.records.pseudo_label import FilteredLabel

from unit.label.builders import make_label, make_quality

RULES = RuleSettings()


def windows(count: int) -> list[FilteredLabel]:
    both = [(make_quality(f"a{index}"), make_quality(f"b{index}", ngram_repeats=9)) for index in range(count)]
    return [apply_filter(make_label(f"w{index}", *pair), RULES) for index, pair in enumerate(both)]


def test_a_smaller_subset_is_part_of_a_larger_one() -> None:
    store = windows(40)
    seconds = store[0].label.quality[0].utterance.audio.duration
    sizes = [len(select_subset(store, seconds * count / 3600 + 1e-9)) for count in (1, 7, 40, 80)]
    assert sizes == [1, 7, 40, 40]  # dropped utterances do not count
    assert select_subset(store, seconds * 7 / 3600 + 1e-9) < select_subset(store, seconds * 20 / 3600 + 1e-9)
    assert select_subset(store[::-1], seconds * 7 / 3600 + 1e-9) == select_subset(store, seconds * 7 / 3600 + 1e-9)


def test_utterances_outside_the_subset_are_dropped_and_others_keep_their_rule() -> None:
    filtered = windows(1)[0]
    decisions = restrict_to_subset(filtered, set()).decisions
    assert [decision.rule for decision in decisions] == [NOT_IN_SUBSET, "repetition"]
    restricted = restrict_to_subset(
        filtered, {(quality.utterance.corpus, quality.utterance.id) for quality in filtered.label.quality}
    ).decisions
    assert restricted == filtered.decisions


def test_zero_hours_are_an_error() -> None:
    with pytest.raises(SettingsError, match="subset_hours must be above 0"):
        select_subset([], 0.0)
