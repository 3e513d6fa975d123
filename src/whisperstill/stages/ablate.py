"""ablate: one setting of a recipe varied at a time, each student evaluated on the recipe's test sets.

All students learn from the one label store; the teacher is not called again. What two ablations have in common (the
recipe's own value above all) is trained once. Finished trainings and evaluations are found again, so an ablation may
be stopped, widened, and taken up.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from whisperstill.errors import SettingsError, StoreError, TrainingError
from whisperstill.files import write_whole
from whisperstill.records.findings import Ablation, AblationRow, Findings
from whisperstill.records.plain import to_plain
from whisperstill.stages.ablation import chunked, counted, open_bench, row, timed
from whisperstill.stages.console import Console
from whisperstill.stages.recipe import Recipe, read_content, recipe_of
from whisperstill.stages.variation import labels_missing, trained, with_values

OBJECTIVES = {
    "pl": {"train.alpha_kl": 0.0, "train.alpha_pl": 1.0},
    "kl": {"train.alpha_kl": 0.8, "train.alpha_pl": 0.0},
    "pl+kl": {"train.alpha_kl": 0.8, "train.alpha_pl": 1.0},
}


@dataclass(frozen=True)
class AblateSettings:
    """What of a recipe is varied, one at a time; what is not named is left alone."""

    recipe: Path
    """The recipe, a TOML file with [filter], [init], [train] and [evaluate]; its labels have to be there."""
    max_wer: tuple[float, ...] = ()
    """The filter's limits on the word error rate, per cent (paper: 100, 80, 40, 20, 15, 10, 5)."""
    hours: tuple[float, ...] = ()
    """Hours of the first packing that are trained on; what is drawn is heard in all packings."""
    decoder_layers: tuple[int, ...] = ()
    """Decoder layers of the student (paper: 2, 4, 8, 16)."""
    layers: tuple[str, ...] = ()
    """Which of the teacher's layers, as numbers with commas between: `0,5`."""
    objective: tuple[Literal["pl", "kl", "pl+kl"], ...] = ()
    """Pseudo-labels, the teacher's distribution, or both (paper, table 14)."""
    temperature: tuple[float, ...] = ()
    """Of the KL loss."""
    chunk_length: tuple[float, ...] = ()
    """Seconds of chunks of the recipe's own student on the recordings of `long`."""
    long: tuple[str, ...] = ()
    """Corpora of recordings over 30 s, for `chunk_length`."""
    seeds: tuple[int, ...] = (0,)
    """Seeds that each student is trained with."""
    max_steps: int | None = None
    """Steps of every training (default: as the recipe has it)."""
    in_distribution: tuple[str, ...] = ()
    """Names of test sets that the mean leaves out: it is over what is out of distribution."""
    limit: int | None = None
    """Only so many utterances of each test set, spread over it."""
    batch_size: int = 16
    """Windows decoded at a time."""
    device: str = "auto"
    """`cpu`, `cuda`, or `auto`."""
    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    """Type of computation of the evaluation."""
    bootstrap_resamples: int = 1000
    """Draws of the bootstrap behind the 95 % intervals."""
    output: Path | None = None
    """Folder of the results and students (default: `ablations` under the recipe's output)."""


@dataclass(frozen=True, slots=True)
class AblateReport:
    """The tables, as in ablations.json."""

    output: str
    ablations: tuple[Ablation, ...] = field(default=())
    trained: int = 0
    """Students, each counted once."""
    failed: tuple[str, ...] = ()
    """What could not be trained, and why; the rest went on without it."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A value of what is varied, and what it sets."""

    value: str
    sets: Mapping[str, Any]


def run(settings: AblateSettings, console: Console) -> AblateReport:
    """Train and evaluate what is missing; writes ablations.json after every row, at the end ablations.md.

    Raises `SettingsError` for what cannot be varied and where the labels are not there, `TrainingError` where nothing
    could be trained, and what a stage raises.
    """
    from whisperstill.distill.validation import hearing_once

    content = read_content(settings.recipe)
    given = recipe_of(content, settings.recipe)
    _check(given, settings)
    output = settings.output or given.output / "ablations"
    bench = open_bench(given, settings, output, console)
    tables = _asked(content, settings)
    reports: dict[Path, dict[str, Any]] = {}
    found: list[Ablation] = []
    failed: list[str] = []

    def student(sets: Mapping[str, Any], seed: int, what: str) -> Path | None:
        changed = with_values(content, sets, seed, settings.max_steps, given, output, "student")
        try:
            place, reports[place] = trained(changed, settings.recipe)
        except (StoreError, TrainingError) as error:
            failed.append(f"{what}, seed {seed}: {error}")
            console.warn(failed[-1])
            return None
        return place

    def keep(name: str, setting: str, rows: Sequence[AblationRow]) -> None:
        over = tuple(counted(list(rows[0].wer), settings))
        found[:] = [*(one for one in found if one.name != name), Ablation(name, setting, tuple(rows), over)]
        content = {"ablations": [to_plain(one) for one in found], "failed": failed}
        write_whole(output / "ablations.json", json.dumps(content, indent=1) + "\n")

    total = sum(len(variants) for _, _, variants in tables) * len(settings.seeds)
    with console.progress("ablations", total, "students") as bar, hearing_once():
        for name, setting, variants in tables:
            rows, first = list[AblationRow](), list[Path]()
            for variant in variants:
                places = {}
                for seed in settings.seeds:
                    if place := student(variant.sets, seed, f"{name} {variant.value}"):
                        places[seed] = place
                    bar.advance(1, now=f"{name} {variant.value}")
                if not places:
                    continue
                first.append(next(iter(places.values())))
                rows.append(row(variant.value, places, reports, bench, settings))
                keep(name, setting, rows)
            if name == "decoder_layers" and rows:
                keep(name, setting, timed(rows, first, bench))
    if settings.chunk_length and (own := student({}, settings.seeds[0], "chunk_length")):
        rows = [chunked(length, own, bench, settings) for length in settings.chunk_length]
        keep("chunk_length", "chunk_length of decoding", rows)
    if failed and not found:
        raise TrainingError(f"nothing could be trained, the last: {failed[-1]}")
    from whisperstill.stages.report import write_tables

    write_tables(Findings("ablations", {}, ablations=tuple(found)), output / "ablations.md")
    return AblateReport(str(output), tuple(found), len(reports), tuple(failed))


def _asked(content: Mapping[str, Any], settings: AblateSettings) -> list[tuple[str, str, list[Variant]]]:
    """(name, setting, its variants); values that are the recipe's own set nothing, so that students are shared."""

    def variants(setting: str, values: Sequence[Any], own: Any = None) -> list[Variant]:
        verb, _, key = setting.partition(".")
        given = content.get(verb, {}).get(key, own)
        return [Variant(_shown(value), {} if value == given else {setting: value}) for value in values]

    weights = {
        key: content.get("train", {}).get(key.partition(".")[2], default)
        for key, default in (("train.alpha_kl", 0.8), ("train.alpha_pl", 1.0))
    }
    layers = [[int(number) for number in one.split(",")] for one in settings.layers]
    tables = [
        ("max_wer", "filter.max_wer", variants("filter.max_wer", settings.max_wer, 10.0)),
        ("hours", "filter.max_hours", variants("filter.max_hours", settings.hours)),
        ("decoder_layers", "init.decoder_layers", variants("init.decoder_layers", settings.decoder_layers)),
        ("layers", "init.layers", [Variant(",".join(map(str, one)), {"init.layers": one}) for one in layers]),
        (
            "objective",
            "train.alpha_kl, train.alpha_pl",
            [Variant(one, {} if OBJECTIVES[one] == weights else OBJECTIVES[one]) for one in settings.objective],
        ),
        ("temperature", "train.temperature", variants("train.temperature", settings.temperature, 2.0)),
    ]
    return [one for one in tables if one[2]]


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _check(given: Recipe, settings: AblateSettings) -> None:
    stages = {stage.verb for stage in given.stages}
    problems = []
    missing = [f"[{verb}]" for verb in ("filter", "init", "train", "evaluate") if verb not in stages]
    if missing:
        problems.append(f"{settings.recipe} has no {', '.join(missing)}: ablations train and evaluate")
    if trouble := labels_missing(given):
        problems.append(trouble)
    asked = ("max_wer", "hours", "decoder_layers", "layers", "objective", "temperature", "chunk_length")
    if not any(getattr(settings, name) for name in asked):
        flags = ", ".join("--" + one.replace("_", "-") for one in asked)
        problems.append(f"nothing is varied: name at least one of {flags}")
    if settings.decoder_layers and any(getattr(stage.settings, "layers", None) for stage in given.stages):
        problems.append(f"{settings.recipe} names init.layers, which says how many there are: vary layers instead")
    if bool(settings.chunk_length) != bool(settings.long):
        problems.append("chunk_length and long go together: chunks are of recordings over 30 s")
    if not settings.seeds:
        problems.append("seeds must name at least one")
    for one in settings.layers:
        if not all(number.strip().isdigit() for number in one.split(",")):
            problems.append(f"layers must be numbers with commas between, such as 0,5; got {one!r}")
    if problems:
        raise SettingsError("; ".join(problems))
