"""Fewer hours are a part of more hours."""

import pytest

from whisperstill.errors import SettingsError
from whisperstill.label.draw import NOT_DRAWN, among, drawn
from whisperstill.label.rules import RuleSettings, judge
from whisperstill.records.labelled import Judged

from unit.label.builders import evidence, labelled

RULES = RuleSettings()


def windows(count: int) -> list[Judged]:
    both = [(evidence(f"a{at}"), evidence(f"b{at}", longest_repeat=9)) for at in range(count)]
    return [judge(labelled(f"w{at}", *pair), RULES) for at, pair in enumerate(both)]


def test_fewer_hours_are_a_part_of_more() -> None:
    store = windows(40)
    seconds = store[0].labelled.evidence[0].utterance.audio.duration
    sizes = [len(drawn(store, seconds * count / 3600 + 1e-9)) for count in (1, 7, 40, 80)]
    assert sizes == [1, 7, 40, 40]  # what the rules drop is no part of an hour
    assert drawn(store, seconds * 7 / 3600 + 1e-9) < drawn(store, seconds * 20 / 3600 + 1e-9)
    assert drawn(store[::-1], seconds * 7 / 3600 + 1e-9) == drawn(store, seconds * 7 / 3600 + 1e-9)


def test_what_is_not_drawn_says_so_and_what_was_dropped_keeps_its_reason() -> None:
    judged = windows(1)[0]
    verdicts = among(judged, set()).verdicts
    assert [one.rule for one in verdicts] == [NOT_DRAWN, "repetition"]
    kept = among(judged, {(one.utterance.corpus, one.utterance.id) for one in judged.labelled.evidence}).verdicts
    assert kept == judged.verdicts


def test_no_hours_are_an_error() -> None:
    with pytest.raises(SettingsError, match="max_hours must be above 0"):
        drawn([], 0.0)
