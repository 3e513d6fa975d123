"""The rows of an ablation: students on test sets, and what is known of how they came to be."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whisperstill.errors import SettingsError
from whisperstill.records.findings import AblationRow
from whisperstill.stages.console import Console
from whisperstill.stages.recipe import Recipe

if TYPE_CHECKING:
    from whisperstill.evaluate.contenders import Own, Way
    from whisperstill.evaluate.measure import Heard
    from whisperstill.stages.ablate import AblateSettings
    from whisperstill.stages.suite import Bench
    from whisperstill.stages.suite_sets import Corpus

TIMED_ROUNDS = 5
"""Of windows and tokens, in turns."""


def open_bench(given: Recipe, settings: "AblateSettings", output: Path, console: Console) -> "Bench":
    """The test sets, read once."""
    from whisperstill.model.device import choose_device, choose_dtype
    from whisperstill.stages.evaluate import EvaluateSettings
    from whisperstill.stages.outcomes import Outcomes
    from whisperstill.stages.suite import Bench
    from whisperstill.stages.suite_file import ModelAsked, SetAsked, Suite

    stages = {stage.verb: stage.settings for stage in given.stages}
    short, language = list(stages["evaluate"].manifest), stages["evaluate"].language
    asked = [SetAsked(one, language=language, whole=one in settings.long) for one in [*short, *settings.long]]
    sets = dict(zip(names_of([one.manifest for one in asked]), asked, strict=True))
    suite = Suite("ablations", output, {"teacher": ModelAsked(stages["init"].teacher, role="teacher")}, sets)
    device = choose_device(settings.device)
    how = EvaluateSettings(
        batch_size=settings.batch_size, bootstrap_resamples=settings.bootstrap_resamples, limit=settings.limit
    )
    bench = Bench(suite, how, console, Outcomes(output), device, choose_dtype(settings.dtype, device))
    bench.open()
    if bench.failures:
        raise SettingsError(f"{bench.failures[0].what}: {bench.failures[0].reason}")
    if unknown := [one for one in settings.in_distribution if one not in bench.corpora]:
        raise SettingsError(
            f"in_distribution must name test sets ({', '.join(bench.corpora)}), got {', '.join(unknown)}"
        )
    return bench


def names_of(manifests: Sequence[str]) -> list[str]:
    """A set's folder; the whole path where two folders share a name."""
    names = [path.parent.name if path.suffix else path.name for path in map(Path, manifests)]
    return [name if names.count(name) == 1 else one for name, one in zip(names, manifests, strict=True)]


def row(
    value: str,
    places: Mapping[int, Path],
    reports: Mapping[Path, Mapping[str, Any]],
    bench: "Bench",
    settings: "AblateSettings",
) -> AblationRow:
    """A value's students on the recipe's test sets."""
    from whisperstill.evaluate.contenders import Way

    corpora = [one for one in bench.corpora.values() if not one.asked.whole]
    way = Way(batch_size=settings.batch_size)
    heard: dict[str, dict[int, Heard]] = {corpus.name: {} for corpus in corpora}
    for seed, place in places.items():
        student = _student(place, bench)
        for corpus in corpora:
            heard[corpus.name][seed] = _heard(student, corpus, way, bench)
        some = student.measured
    reported = [reports[place] for place in places.values()]
    facts = {
        "hours": statistics.mean(one["hours"] for one in reported),
        "windows": statistics.mean(one["windows"] for one in reported),
        "steps": statistics.mean(one["steps"] for one in reported),
        "parameters": float(some.parameters),
        "parameters_decoder": float(some.parameters_decoder),
    }
    facts |= _filtered(next(iter(places.values())))
    best = [one["best_wer"] for one in reported if one.get("best_wer") is not None]
    if best:
        facts["validation_wer"] = statistics.mean(best)
    return _summed(value, heard, facts, settings)


def _filtered(student: Path) -> dict[str, float]:
    """Per cent of the audio that the filter of a student dropped."""
    from whisperstill.stages.run import marker, read_json

    labels = read_json(marker(student)).get("settings", {}).get("labels")
    summary = read_json(Path(labels) / "filter.json") if labels else {}
    if not summary.get("hours"):
        return {}
    return {"dropped": 100 * (1 - summary["hours_kept"] / summary["hours"]), "kept_hours": summary["hours_kept"]}


def _student(place: Path, bench: "Bench") -> "Own":
    """A student to be heard: the only one in memory."""
    from whisperstill.evaluate.contenders import Own

    return Own("student", str(place), "student", bench.device, bench.dtype, False)


def _heard(student: "Own", corpus: "Corpus", way: "Way", bench: "Bench") -> "Heard":
    """What a student hears; its teacher's encoder is asked once. Raises `SettingsError` where that fails."""
    from whisperstill.evaluate.shelf import Shelf

    bench.contenders["student"] = student
    heard = bench.hear("student", corpus, way, bench.shelves.setdefault(corpus.name, Shelf(shared=True)))
    if heard is None:
        raise SettingsError(f"{bench.failures[-1].what}: {bench.failures[-1].reason}")
    return heard


def _summed(
    value: str, heard: "Mapping[str, Mapping[int, Heard]]", facts: Mapping[str, float], settings: "AblateSettings"
) -> AblationRow:
    from whisperstill.evaluate.intervals import mean_over_sets

    wer = {name: {str(seed): 100 * _rate(one) for seed, one in by_seed.items()} for name, by_seed in heard.items()}
    names = counted(list(heard), settings)
    mean, interval = mean_over_sets(
        [[one.samples for one in heard[name].values()] for name in names], resamples=settings.bootstrap_resamples
    )
    return AblationRow(value, wer, 100 * mean, 100 * interval.low, 100 * interval.high, dict(facts))


def counted(sets: Sequence[str], settings: "AblateSettings") -> list[str]:
    """The sets that a mean is over: those out of distribution, or all where there are none."""
    return [name for name in sets if name not in settings.in_distribution] or list(sets)


def _rate(heard: "Heard") -> float:
    from whisperstill.records.edits import NO_EDITS

    return sum(heard.edits, NO_EDITS).rate


def chunked(length: float, place: Path, bench: "Bench", settings: "AblateSettings") -> AblationRow:
    """The recipe's student on long recordings with one length of chunks."""
    from whisperstill.evaluate.contenders import Way

    way = Way("chunked", length, settings.batch_size)
    student = _student(place, bench)
    long = [one for one in bench.corpora.values() if one.asked.whole]
    heard = {one.name: {settings.seeds[0]: _heard(student, one, way, bench)} for one in long}
    return _summed(f"{length:g}", heard, {}, settings)


def timed(rows: Sequence[AblationRow], students: Sequence[Path], bench: "Bench") -> list[AblationRow]:
    """The rows with their students' speed over the teacher's: a window and 24 tokens at batch 1, in turns."""
    from whisperstill.evaluate.contenders import Own
    from whisperstill.evaluate.speed import measure_speed

    teacher = bench.contenders["teacher"]
    assert isinstance(teacher, Own)
    networks = [_student(place, bench).recogniser.network for place in students]
    whole, *parts = measure_speed([teacher.recogniser.network, *networks], rounds=TIMED_ROUNDS)
    return [
        replace(
            one,
            facts={
                **one.facts,
                "relative_speed": whole.latency_ms / part.latency_ms,
                "relative_decoder_speed": whole.decoder_ms_per_token / part.decoder_ms_per_token,
            },
        )
        for one, part in zip(rows, parts, strict=True)
    ]
