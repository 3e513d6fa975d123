"""Contents of tables and charts."""

from dataclasses import replace

import pytest

from whisperstill.evaluate.report.ablations import build_ablation_sections
from whisperstill.evaluate.report.accuracy import build_headline_section, build_short_form_section
from whisperstill.evaluate.report.blocks import Table
from whisperstill.evaluate.report.corrupted_audio import build_channels_section, build_noise_section
from whisperstill.evaluate.report.cost import build_speculative_section, build_speed_section
from whisperstill.evaluate.report.effective_robustness import build_effective_robustness_section
from whisperstill.evaluate.report.hallucination import (
    build_hallucination_section,
    count_hallucinated_words,
    pooled_insertion_rate,
)
from whisperstill.evaluate.report.long_form import build_chunk_length_section, build_long_form_section
from whisperstill.evaluate.report.sections import build_sections
from whisperstill.evaluate.report.summary import build_summary
from whisperstill.evaluate.report.view import ResultsView
from whisperstill.records.eval_results import Ablation, AblationRow, EvalResults, PairedDifference

from unit.evaluate.report import builders

PAIR = builders.full(models=("base", "student"))
VIEW = ResultsView(PAIR)


def rows(table: Table) -> list[list[str]]:
    return [[str(cell) for cell in row] for row in table.rows]


def test_headline_has_size_speed_and_means() -> None:
    (table,) = build_headline_section(VIEW).tables
    base, student = rows(table)
    assert base[:3] == ["base", "72.6", "1.0×"]
    assert student[:3] == ["student", "55.8", "1.6×"]
    assert base[3:5] == ["4.3 (3.6–5.1)", "6.0 (5.4–6.7)"]
    assert base[5:] == ["3.5 (2.9–4.1)", "chunked"]


def test_datasets_are_out_of_distribution_only_beside_one_in_distribution() -> None:
    unmarked = tuple(replace(dataset, in_distribution=False) for dataset in VIEW.eval_results.datasets)
    unmarked_view = ResultsView(replace(VIEW.eval_results, datasets=unmarked))
    titles = [build_headline_section(view).tables[0].columns for view in (VIEW, unmarked_view)]
    assert "WER %, short form, out of distribution" in titles[0]
    assert "WER %, short form" in titles[1] and not any("distribution" in title for title in titles[1])


def test_datasets_are_grouped_by_distribution_with_their_mean() -> None:
    table = build_short_form_section(VIEW).tables[0]
    assert [row[0] for row in rows(table)] == [
        *("In distribution", "mini-test", "Out of distribution", "test-other", "ljspeech", "prompts", "Mean")
    ]
    assert [len(row) for row in table.rows] == [1, 4, 1, 4, 4, 4, 4]
    assert [row[0].total for row in table.rows] == [*(False,) * 6, True]


def test_relative_error_rates() -> None:
    cells = (
        builders.cell(4.0, model="base"),
        builders.cell(8.0, difference_to_teacher=PairedDifference(4.0, 3.0, 5.0, 0.001)),
        builders.cell(10.0, model="base", dataset="ljspeech"),
        builders.cell(11.0, dataset="ljspeech", difference_to_teacher=PairedDifference(1.0, -0.5, 2.5, 0.2)),
    )
    section = build_effective_robustness_section(ResultsView(replace(PAIR, results=cells)))
    assert rows(section.tables[0]) == [
        ["student"],
        ["mini-test", "4.0", "8.0", "+4.0 (+3.0 to +5.0)", "+100 (+75 to +125)", "< 0.002"],
        ["ljspeech", "10.0", "11.0", "+1.0 (−0.5 to +2.5)", "+10 (−5 to +25)", "0.2"],
    ]
    assert "loses no more on new data than in distribution: RER +10 % out of distribution, +100 % in" in section.lead
    (chart,) = section.charts
    assert (chart.reference_line, chart.ticks) == (100.0, {0: "mini-test", 1: "ljspeech"})
    assert [(point.y, point.low, point.high) for point in chart.series[0].points] == [(100, 75, 125), (10, -5, 25)]


def test_overlapping_intervals_are_no_robustness_difference() -> None:
    def lead(near: tuple[float, float], far: tuple[float, float]) -> str:
        ends = {"mini-test": near, "ljspeech": far}
        cells = [builders.cell(10.0, model="base", dataset=name) for name in ends]
        for name, (low, high) in ends.items():
            middle = (low + high) / 2
            cells.append(
                builders.cell(
                    10.0 + middle, dataset=name, difference_to_teacher=PairedDifference(middle, low, high, 0.1)
                )
            )
        return build_effective_robustness_section(ResultsView(replace(PAIR, results=tuple(cells)))).lead

    assert "student loses more on new data" in lead((1.0, 2.0), (3.0, 4.0))
    assert "student shows no clear difference in RER" in lead((1.0, 3.0), (2.0, 4.0))
    assert "student loses no more on new data" in lead((2.0, 4.0), (1.0, 3.0))


def test_no_relative_figures_without_a_teacher() -> None:
    view = ResultsView(replace(PAIR, models=tuple(replace(model, role="") for model in PAIR.models)))
    assert build_effective_robustness_section(view).tables == ()
    assert "Relative speed" not in build_speed_section(view).tables[0].columns


def test_noise_has_a_chart_per_type_and_a_curve_per_model() -> None:
    section = build_noise_section(VIEW)
    assert [chart.title for chart in section.charts] == ["white, mini-test", "babble, mini-test"]
    chart = section.charts[0]
    assert [line.name for line in chart.series] == ["base", "student"]
    assert [point.x for point in chart.series[0].points] == list(range(40, -15, -5))
    assert [point for point in chart.series[1].points if not point.low < point.y < point.high] == []
    table = rows(section.tables[0])
    assert [row[0] for row in table[:4]] == ["mini-test", "clean", "white noise at 40 dB", "white noise at 35 dB"]
    assert "babble of other speakers at −10 dB" in [row[0] for row in table]


def test_condition_table_has_the_error_rate_over_the_teachers() -> None:
    table = build_channels_section(VIEW).tables[0]
    assert table.columns == ["Condition", "base", "student", "student / base"]
    assert rows(table)[2] == ["telephone band, mu-law", "6.9 (5.7–8.1)", "15.8 (13.1–18.7)", "2.3×"]
    view = ResultsView(replace(PAIR, models=tuple(replace(model, role="") for model in PAIR.models)))
    assert build_channels_section(view).tables[0].columns == ["Condition", "base", "student"]


def test_clean_results_are_of_the_same_utterances() -> None:
    fewer = tuple(
        replace(result, utterances=20) if result.measurement == "noise" else result for result in PAIR.results
    )
    assert (
        rows(build_channels_section(ResultsView(replace(PAIR, results=fewer))).tables[0])[1][0]
        == "telephone band, mu-law"
    )
    clean = tuple(
        builders.cell(3.0, measurement="noise", model=name, condition="clean", utterances=20)
        for name in ("base", "student")
    )
    table_rows = rows(build_channels_section(ResultsView(replace(PAIR, results=(*fewer, *clean)))).tables[0])
    assert table_rows[1] == ["clean", "3.0 (2.5–3.5)", "3.0 (2.5–3.5)", "1.0×"]
    assert table_rows[3][0] == "MP3 at 16 kbit/s"


def test_long_form_strategies_and_their_speed() -> None:
    table = build_long_form_section(VIEW).tables[0]
    assert [row[0] for row in rows(table)][:6] == ["base", "chunked", "sequential", "vad", "silence", "student"]
    assert rows(table)[2][-1] == "1.0×"
    assert rows(table)[1][-1] == "5.0×"


def test_chunk_lengths() -> None:
    section = build_chunk_length_section(VIEW)
    table = rows(section.tables[0])
    assert [row[0] for row in table] == [
        *(name for heading in (*builders.LONG, "Mean") for name in (heading, "30", "25", "20", "15", "10"))
    ]
    assert [row[1].split()[0] for row in table[13:]] == ["3.7", "4.4", "5.2", "5.9", "6.7"]
    assert table[-2][2].startswith("8.5 ")


def test_hallucinated_words_without_and_with_the_filter() -> None:
    assert count_hallucinated_words(VIEW, "student") == (32, 40)
    assert count_hallucinated_words(VIEW, "student", hallucination_filter=True) == (0, 40)
    assert count_hallucinated_words(ResultsView(builders.alone()), "student") is None
    cells = VIEW.short_form_results("student")
    words, inserted = (sum(getattr(cell, name) for cell in cells) for name in ("words", "insertions"))
    assert pooled_insertion_rate(VIEW, "student") == 100 * inserted / words
    section = build_hallucination_section(VIEW)
    assert ["music", "20", "0.17", "14 (9 of 20)", "32 (9 of 20)"] in rows(section.tables[1])


def test_speculative_decoding_by_batch_size() -> None:
    section = build_speculative_section(VIEW)
    assert section.lead == "All tokens are identical to the teacher alone."
    assert [row[:2] for row in rows(section.tables[0])] == [
        *(["base with student"], ["1", "1.52×"], ["4", "1.21×"], ["16", "0.96×"])
    ]


@pytest.mark.parametrize(("number", "log", "kind"), [(0, False, "lines"), (1, True, "lines"), (3, False, "dots")])
def test_ablation_chart_fits_its_values(number: int, log: bool, kind: str) -> None:
    (chart,) = build_ablation_sections(VIEW)[number].charts
    assert (chart.log_x, chart.kind) == (log, kind)


def test_ablation_statistics_that_differ_are_columns() -> None:
    sections = build_ablation_sections(VIEW)
    assert sections[0].tables[0].columns == [
        *("λ, WER %", "Mean WER %", "test-other", "ljspeech", "Dropped, %", "Hours", "Seeds")
    ]
    assert "Lowest WER: λ = 15." in sections[0].lead
    assert "No other interval overlaps." in sections[1].lead
    assert rows(sections[2].tables[0])[3][-3:-1] == ["60.0", "1.6×"]
    alone = Ablation("odd/name <x>", "x", (AblationRow("1", {"s": {"0": 3.0}}, 3.0, 2.0, 4.0, {"best": 1.5}),))
    (section,) = build_ablation_sections(ResultsView(EvalResults("one", {}, ablations=(alone,))))
    assert section.id == "ablation-0-odd-name-x-"
    assert rows(section.tables[0]) == [["1", "3.0 (2.0–4.0)", "1.5", "1"]]
    alike = replace(alone, rows=(alone.rows[0], replace(alone.rows[0], value="2")))
    (section,) = build_ablation_sections(ResultsView(EvalResults("one", {}, ablations=(alike,))))
    assert rows(section.tables[0])[1] == ["2", "3.0 (2.0–4.0)", "1"]
    assert section.tables[0].caption.endswith(" All rows: best 1.5.")


def test_identifiers_are_unique() -> None:
    sections = build_sections(ResultsView(builders.full()))
    ids = [part.id for section in sections for part in (section, *section.tables, *section.charts)]
    assert len(ids) == len(set(ids))


def test_ablation_names_the_datasets_of_its_mean() -> None:
    rows = (AblationRow("1", {"near": {"0": 3.0}, "far": {"0": 5.0}}, 5.0, 4.0, 6.0),)
    for over, text in ((("far",), "over far."), (("near", "far"), "over all datasets."), ((), "over all datasets.")):
        (section,) = build_ablation_sections(
            ResultsView(EvalResults("f", {}, ablations=(Ablation("subset_hours", "x", rows, over),)))
        )
        assert f"The mean is {text}" in section.tables[0].caption


def test_differences_between_engines_are_noted() -> None:
    assert "whisperstill decodes" not in build_long_form_section(VIEW).tables[0].caption
    other = tuple(replace(model, engine="faster-whisper") if model.name == "base" else model for model in PAIR.models)
    assert "whisperstill decodes" in build_long_form_section(ResultsView(replace(PAIR, models=other))).tables[0].caption


def test_character_units_are_named() -> None:
    assert VIEW.error_units(["mini-test"]) == "words"
    units = tuple(
        replace(dataset, unit="character") if dataset.name == "ljspeech" else dataset for dataset in PAIR.datasets
    )
    view = ResultsView(replace(PAIR, datasets=units))
    assert (view.error_units(["ljspeech"]), view.error_units(["ljspeech", "mini-test"])) == (
        "characters",
        "words and characters",
    )
    only = replace(PAIR, datasets=tuple(replace(dataset, unit="character") for dataset in PAIR.datasets))
    summary = build_summary(ResultsView(only))
    assert summary is not None and "errors per 100 characters" in summary.sentence and "words" not in summary.sentence


def test_insertions_have_no_badge() -> None:
    """No test of significance covers them."""
    summary = build_summary(VIEW)
    assert summary is not None
    assert {tile.label: tile.badge for tile in summary.tiles if tile.label.startswith(("Insertions", "Words"))} == {
        "Insertions per 100 words": "",
        "Words on audio without speech": "",
    }


def test_datasets_that_differ_are_named_beside_an_equal_mean() -> None:
    """Equal on average, but worse on two datasets and better on the third."""
    sets = [("a", 5.0, 9.0, 3.0), ("b", 5.0, 9.0, 3.0), ("c", 50.0, 40.0, -15.0)]
    cells = []
    for name, teacher, own, low in sets:
        cells.append(builders.cell(teacher, model="base", dataset=name))
        cells.append(
            builders.cell(own, dataset=name, difference_to_teacher=PairedDifference(own - teacher, low, low + 10, 0.01))
        )
    summary = build_summary(ResultsView(replace(PAIR, results=tuple(cells), speeds=(), datasets=())))
    assert summary is not None
    assert "shows no clear difference on average, but is worse on 2 and better on 1 of 3 datasets" in summary.sentence
    nowhere = tuple(
        replace(result, difference_to_teacher=result.difference_to_teacher and PairedDifference(0.5, -9.0, 9.0, 0.8))
        for result in cells
    )
    summary = build_summary(ResultsView(replace(PAIR, results=nowhere, speeds=(), datasets=())))
    assert summary is not None and "shows no clear difference in accuracy" in summary.sentence
