"""Fewer hours are a part of more hours."""

import pytest

from whisperstill.errors import SettingsError
from whisperstill.label.filter_rules import RuleSettings, apply_filter
from whisperstill.label.filtering import NOT_IN_SUBSET, restrict_to_subset, select_subset
from whisperstill.records.pseudo_label import FilteredLabel

from unit.label.builders import evidence, labelled

RULES = RuleSettings()


def windows(count: int) -> list[FilteredLabel]:
    both = [(evidence(f"a{at}"), evidence(f"b{at}", ngram_repeats=9)) for at in range(count)]
    return [apply_filter(labelled(f"w{at}", *pair), RULES) for at, pair in enumerate(both)]


def test_fewer_hours_are_a_part_of_more() -> None:
    store = windows(40)
    seconds = store[0].label.quality[0].utterance.audio.duration
    sizes = [len(select_subset(store, seconds * count / 3600 + 1e-9)) for count in (1, 7, 40, 80)]
    assert sizes == [1, 7, 40, 40]  # what the rules drop is no part of an hour
    assert select_subset(store, seconds * 7 / 3600 + 1e-9) < select_subset(store, seconds * 20 / 3600 + 1e-9)
    assert select_subset(store[::-1], seconds * 7 / 3600 + 1e-9) == select_subset(store, seconds * 7 / 3600 + 1e-9)


def test_what_is_not_drawn_says_so_and_what_was_dropped_keeps_its_reason() -> None:
    judged = windows(1)[0]
    verdicts = restrict_to_subset(judged, set()).decisions
    assert [one.rule for one in verdicts] == [NOT_IN_SUBSET, "repetition"]
    kept = restrict_to_subset(
        judged, {(one.utterance.corpus, one.utterance.id) for one in judged.label.quality}
    ).decisions
    assert kept == judged.decisions


def test_no_hours_are_an_error() -> None:
    with pytest.raises(SettingsError, match="subset_hours must be above 0"):
        select_subset([], 0.0)
