"""What stands in the tables and charts."""

from dataclasses import replace

import pytest

from whisperstill.evaluate.report.ablations import ablations
from whisperstill.evaluate.report.accuracy import headline, short_form
from whisperstill.evaluate.report.blocks import Section, Table
from whisperstill.evaluate.report.cost import speculation, speed
from whisperstill.evaluate.report.hallucination import hallucination, invented, pooled_insertions
from whisperstill.evaluate.report.long_form import chunk_length, long_form
from whisperstill.evaluate.report.robustness import channels, effective_robustness, noise
from whisperstill.evaluate.report.sections import sections
from whisperstill.evaluate.report.verdict import verdict
from whisperstill.evaluate.report.view import View
from whisperstill.records.findings import Ablation, AblationRow, Findings, Paired

from unit.evaluate.report import builders

PAIR = builders.full(models=("base", "student"))
VIEW = View(PAIR)


def rows(table: Table) -> list[list[str]]:
    return [[str(value) for value in row.values] for row in table.rows]


def given(section: Section | None) -> Section:
    assert section is not None
    return section


def test_headline_holds_size_speed_and_means() -> None:
    (table,) = given(headline(VIEW)).tables
    base, student = rows(table)
    assert base[:3] == ["base", "72.6", "1.0×"]
    assert student[:3] == ["student", "55.8", "1.6×"]
    assert base[3:5] == ["4.3 (3.6–5.1)", "6.0 (5.4–6.7)"]
    assert base[5:] == ["3.5 (2.9–4.1)", "chunked"]


def test_sets_stand_in_groups_with_their_mean() -> None:
    table = given(short_form(VIEW)).tables[0]
    assert [row[0] for row in rows(table)] == [
        *("In distribution", "mini-test", "Out of distribution", "test-other", "ljspeech", "prompts", "Mean")
    ]
    assert [row.kind for row in table.rows] == ["group", "", "group", "", "", "", "total"]


def test_relative_error_rates() -> None:
    cells = (
        builders.cell(4.0, model="base"),
        builders.cell(8.0, against_teacher=Paired(4.0, 3.0, 5.0, 0.001)),
        builders.cell(10.0, model="base", set="ljspeech"),
        builders.cell(11.0, set="ljspeech", against_teacher=Paired(1.0, -0.5, 2.5, 0.2)),
    )
    section = given(effective_robustness(View(replace(PAIR, cells=cells))))
    assert rows(section.tables[0]) == [
        ["mini-test", "4.0", "8.0", "+4.0 (+3.0 to +5.0)", "+100 (+75 to +125)", "< 0.002"],
        ["ljspeech", "10.0", "11.0", "+1.0 (−0.5 to +2.5)", "+10 (−5 to +25)", "0.2"],
    ]
    assert "loses no more where the data are new: RER +10 % out of distribution, +100 % in" in section.lead
    (chart,) = section.charts
    assert (chart.mark, chart.rows) == (100.0, ("mini-test", "ljspeech"))
    assert [(one.x, one.low, one.high) for one in chart.series[0].points] == [(100, 75, 125), (10, -5, 25)]


def test_more_is_lost_only_where_intervals_lie_apart() -> None:
    def lead(near: tuple[float, float], far: tuple[float, float]) -> str:
        ends = {"mini-test": near, "ljspeech": far}
        cells = [builders.cell(10.0, model="base", set=name) for name in ends]
        for name, (low, high) in ends.items():
            middle = (low + high) / 2
            cells.append(builders.cell(10.0 + middle, set=name, against_teacher=Paired(middle, low, high, 0.1)))
        return given(effective_robustness(View(replace(PAIR, cells=tuple(cells))))).lead

    assert "student loses more where" in lead((1.0, 2.0), (3.0, 4.0))
    assert "student loses as much, as far as can be told" in lead((1.0, 3.0), (2.0, 4.0))
    assert "student loses no more where" in lead((2.0, 4.0), (1.0, 3.0))


def test_without_a_teacher_nothing_is_relative() -> None:
    view = View(replace(PAIR, models=tuple(replace(one, role="") for one in PAIR.models)))
    assert effective_robustness(view) is None
    assert "Relative speed" not in [column.title for column in given(speed(view)).tables[0].columns]


def test_noise_has_a_curve_for_each_model_and_kind() -> None:
    section = given(noise(VIEW))
    assert [chart.title for chart in section.charts] == ["white, mini-test", "babble, mini-test"]
    chart = section.charts[0]
    assert [one.name for one in chart.series] == ["base", "student"]
    assert [point.x for point in chart.series[0].points] == list(range(40, -15, -5))
    assert all(point.low < point.y < point.high for point in chart.series[1].points)
    table = rows(section.tables[0])
    assert table[0][0] == "none"
    assert [row[:2] for row in table[1:3]] == [["white", "40"], ["white", "35"]]
    assert ["babble", "−10"] in [row[:2] for row in table]


def test_clean_sound_is_that_of_the_same_utterances() -> None:
    fewer = tuple(replace(one, utterances=20) if one.measurement == "noise" else one for one in PAIR.cells)
    assert rows(given(channels(View(replace(PAIR, cells=fewer)))).tables[0])[0][0] == "telephone band, mu-law"
    clean = tuple(
        builders.cell(3.0, measurement="noise", model=name, condition="clean", utterances=20)
        for name in ("base", "student")
    )
    found = rows(given(channels(View(replace(PAIR, cells=(*fewer, *clean))))).tables[0])
    assert found[0] == ["as recorded", "3.0 (2.5–3.5)", "3.0 (2.5–3.5)"]
    assert found[2][0] == "MP3 at 16 kbit/s"


def test_strategies_and_their_speed() -> None:
    table = given(long_form(VIEW)).tables[0]
    assert [row[0] for row in rows(table)][:6] == ["base", "chunked", "sequential", "vad", "quiet", "student"]
    assert rows(table)[2][-1] == "1.0×"
    assert rows(table)[1][-1] == "5.0×"


def test_chunk_lengths() -> None:
    section = given(chunk_length(VIEW))
    assert section.lead == "Fewest errors: base at 30 s (3.7 %) and student at 15 s (8.5 %)."
    assert [row[0] for row in rows(section.tables[0])][:3] == ["long-librispeech", "30", "25"]


def test_made_up_words_are_those_of_the_bare_model() -> None:
    assert invented(VIEW, "student") == (32, 40)
    assert invented(VIEW, "student", guarded=True) == (0, 40)
    assert invented(View(builders.alone()), "student") is None
    cells = VIEW.short_cells("student")
    words, inserted = (sum(getattr(cell, name) for cell in cells) for name in ("words", "insertions"))
    assert pooled_insertions(VIEW, "student") == 100 * inserted / words
    section = given(hallucination(VIEW))
    assert "32 words, base 14" in section.lead
    assert ["music", "20", "0.17", "14 (9 of 20)", "32 (9 of 20)"] in rows(section.tables[1])


def test_speculation_by_batch_size() -> None:
    section = given(speculation(VIEW))
    assert section.lead == "The text is the teacher's to the last token. The draft pays at batch 1 and 4."
    assert [row[:2] for row in rows(section.tables[0])] == [
        *(["base with student"], ["1", "1.52×"], ["4", "1.21×"], ["16", "0.96×"])
    ]


@pytest.mark.parametrize(("number", "log", "kind"), [(0, False, "lines"), (1, True, "lines"), (3, False, "dots")])
def test_ablations_are_drawn_as_fits_their_values(number: int, log: bool, kind: str) -> None:
    (chart,) = ablations(VIEW)[number].charts
    assert (chart.log_x, chart.kind) == (log, kind)


def test_facts_of_ablations_that_differ_are_columns() -> None:
    found = ablations(VIEW)
    assert [column.title for column in found[0].tables[0].columns] == [
        *("λ, WER %", "Mean WER %", "test-other", "ljspeech", "Dropped, %", "Hours", "Seeds")
    ]
    assert "Fewest errors with λ = 15: 13.7 (12.9–14.6) %." in found[0].lead
    assert "No other interval reaches that." in found[1].lead
    assert rows(found[2].tables[0])[3][-3:-1] == ["60.0", "1.6×"]
    alone = Ablation("odd/name <x>", "x", (AblationRow("1", {"s": {"0": 3.0}}, 3.0, 2.0, 4.0, {"best": 1.5}),))
    (section,) = ablations(View(Findings("one", {}, ablations=(alone,))))
    assert section.id == "ablation-0-odd-name-x-"
    assert rows(section.tables[0]) == [["1", "3.0 (2.0–4.0)", "1.5", "1"]]
    alike = replace(alone, rows=(alone.rows[0], replace(alone.rows[0], value="2")))
    (section,) = ablations(View(Findings("one", {}, ablations=(alike,))))
    assert rows(section.tables[0])[1] == ["2", "3.0 (2.0–4.0)", "1"]
    assert section.tables[0].caption.endswith(" Of all: best 1.5.")


def test_every_identifier_is_used_once() -> None:
    found = sections(View(builders.full()))
    ids = [part.id for section in found for part in (section, *section.tables, *section.charts)]
    assert len(ids) == len(set(ids))


def test_an_ablation_says_what_its_mean_is_over() -> None:
    rows = (AblationRow("1", {"near": {"0": 3.0}, "far": {"0": 5.0}}, 5.0, 4.0, 6.0),)
    for over, said in ((("far",), "over far."), (("near", "far"), "over all sets."), ((), "over all sets.")):
        (section,) = ablations(View(Findings("f", {}, ablations=(Ablation("hours", "x", rows, over),))))
        assert f"The mean is {said}" in section.tables[0].caption


def test_other_engines_say_what_they_do_otherwise() -> None:
    assert "Our engine decodes" not in given(long_form(VIEW)).tables[0].caption
    other = tuple(replace(one, engine="faster-whisper") if one.name == "base" else one for one in PAIR.models)
    assert "Our engine decodes" in given(long_form(View(replace(PAIR, models=other)))).tables[0].caption


def test_characters_are_not_called_words() -> None:
    assert VIEW.counted(["mini-test"]) == "words"
    units = tuple(replace(one, unit="character") if one.name == "ljspeech" else one for one in PAIR.sets)
    view = View(replace(PAIR, sets=units))
    assert (view.counted(["ljspeech"]), view.counted(["ljspeech", "mini-test"])) == (
        "characters",
        "words and characters",
    )
    only = replace(PAIR, sets=tuple(replace(one, unit="character") for one in PAIR.sets))
    said = verdict(View(only))
    assert said is not None and "errors in 100 characters" in said.sentence and "words" not in said.sentence


def test_made_up_words_are_told_without_a_judgement() -> None:
    """Nothing tests that difference, so nothing calls it one."""
    said = verdict(VIEW)
    assert said is not None
    assert [tile.badge for tile in said.tiles if tile.label.startswith("Words made up")] == [""]


def test_a_mean_does_not_hide_sets_that_differ() -> None:
    """Level in the mean, worse on two sets and better on the third: the first sentence says so."""
    sets = [("a", 5.0, 9.0, 3.0), ("b", 5.0, 9.0, 3.0), ("c", 50.0, 40.0, -15.0)]
    cells = []
    for name, teacher, own, low in sets:
        cells.append(builders.cell(teacher, model="base", set=name))
        cells.append(builders.cell(own, set=name, against_teacher=Paired(own - teacher, low, low + 10, 0.01)))
    said = verdict(View(replace(PAIR, cells=tuple(cells), speeds=(), sets=())))
    assert said is not None
    assert "hears no differently in the mean, but worse on 2 and better on 1 of 3 sets" in said.sentence
    nowhere = tuple(replace(one, against_teacher=one.against_teacher and Paired(0.5, -9.0, 9.0, 0.8)) for one in cells)
    said = verdict(View(replace(PAIR, cells=nowhere, speeds=(), sets=())))
    assert said is not None and "and hears as well as these data can tell" in said.sentence
