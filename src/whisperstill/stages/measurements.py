"""The measurements of a suite: each a function from a bench and its table to parts of the findings.

To add one: a table in `stages.suite_file`, a function here that yields `(field of Findings, record)`, a line in
`MEASURES`, a section in `evaluate.report`.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from whisperstill.audio.conditions import NAMES, VOICES, Condition, conditions_of
from whisperstill.audio.files import load_audio
from whisperstill.decode.recogniser import Recogniser
from whisperstill.errors import NotFoundError, SettingsError
from whisperstill.evaluate.contenders import Own, Way
from whisperstill.evaluate.hypotheses import Change
from whisperstill.evaluate.measure import Heard, measured
from whisperstill.evaluate.shelf import Shelf
from whisperstill.records import Utterance
from whisperstill.records.findings import (
    Ablation,
    CurvePoint,
    SpeculationMeasured,
    Speed,
    Training,
)
from whisperstill.records.plain import from_plain
from whisperstill.records.random import rng
from whisperstill.stages.run import marker, read_json
from whisperstill.stages.suite import Bench
from whisperstill.stages.suite_file import (
    ChunkLength,
    Include,
    LongForm,
    Noise,
    NonSpeech,
    ShortForm,
    Speculative,
    SpeedTable,
    WorstOf,
)
from whisperstill.stages.suite_sets import Corpus, spread
from whisperstill.units import WINDOW_SECONDS

Found = Iterator[tuple[str, Any]]
"""(field of `Findings`, what to add to it)."""


def short_form(bench: Bench, table: ShortForm) -> Found:
    """Every model on every set of utterances up to 30 s."""
    for corpus in bench.sets(table.sets, lambda one: not one.long and not one.asked.non_speech):
        yield from _cells(bench, "short_form", table.models, corpus, Way(batch_size=bench.settings.batch_size))


def non_speech(bench: Bench, table: NonSpeech) -> Found:
    """What is heard where nobody speaks: by the bare model, and with what guards transcription."""
    for corpus in bench.sets(table.sets, lambda one: one.asked.non_speech):
        for decoding in ("short", "quiet"):
            way = Way(decoding, batch_size=bench.settings.batch_size)
            yield from _cells(bench, "non_speech", table.models, corpus, way)


def long_form(bench: Bench, table: LongForm) -> Found:
    """Every model on every set of recordings, in every way."""
    for corpus in bench.sets(table.sets, lambda one: one.long and not one.asked.non_speech):
        for strategy in table.strategies:
            yield from _cells(bench, "long_form", table.models, corpus, Way(strategy, batch_size=table.batch_size))


def chunk_length(bench: Bench, table: ChunkLength) -> Found:
    """`chunked` with chunks of several lengths."""
    for corpus in bench.sets(table.sets, lambda one: one.long and not one.asked.non_speech):
        for length in table.lengths:
            way = Way("chunked", length, bench.settings.batch_size)
            yield from _cells(bench, "chunk_length", table.models, corpus, way)


def noise(bench: Bench, table: Noise) -> Found:
    """Every model on every set under every condition; utterances over 30 s are left out."""
    conditions = conditions_of(table.conditions)
    names = labels(conditions)
    for corpus in bench.sets(table.sets, lambda one: not one.long and not one.asked.non_speech):
        part = replace(corpus, utterances=tuple(spread(corpus.short, table.limit)))
        part = replace(part, sha256=f"{corpus.sha256} {len(part.utterances)}")
        for condition in conditions:
            change = changed_by(condition, part, table.seed)
            changed = {"condition": condition.name, "seed": table.seed, "noise": condition.recorded_sha256()}
            way = Way(batch_size=bench.settings.batch_size)
            yield from _cells(bench, "noise", table.models, part, way, names[condition], change, changed)


def labels(conditions: Sequence[Condition]) -> dict[Condition, str]:
    """Their names; of recorded noise the file's, wherever that lies, or as much of its path as tells it from others."""
    kinds = {one.kind for one in conditions if one.kind not in NAMES}
    found = {}
    for kind in kinds:
        path, others = Path(kind), [Path(other) for other in kinds if other != kind]
        shorter = (path.stem, path.name, f"{path.parent.name}/{path.name}")
        taken = {name for one in others for name in (one.stem, one.name, f"{one.parent.name}/{one.name}")} | {*NAMES}
        found[kind] = next((name for name in shorter if name not in taken), kind)
    return {one: f"{found[one.kind]}@{one.level:g}" if one.kind in found else one.name for one in conditions}


def changed_by(condition: Condition, corpus: Corpus, seed: int) -> Change | None:
    """What a condition does to an utterance; the others of the set are the babble."""
    if condition.kind == "clean":
        return None

    def change(one: Utterance, sound: np.ndarray) -> np.ndarray:
        random = rng(seed, 0, one.id, f"condition {condition.kind}")  # the same noise at every level
        others: list[np.ndarray] = []
        if condition.needs_others:
            rest = [other for other in corpus.utterances if other.id != one.id]
            for at in random.permutation(len(rest))[:VOICES]:
                span = rest[at].audio
                others.append(load_audio(span.path, span.start, min(span.duration, WINDOW_SECONDS)))
        return condition.apply(sound, random, others)

    return change


def _cells(
    bench: Bench,
    measurement: str,
    models: tuple[str, ...],
    corpus: Corpus,
    way: Way,
    condition: str = "",
    change: Change | None = None,
    changed: Mapping[str, Any] | None = None,
) -> Found:
    """A set by all models, the teacher first: the others are held against it."""
    encoders = Counter(
        one.checkpoint.encoder_sha256 for name in bench.models(models) if isinstance(one := bench.contenders[name], Own)
    )
    shelf = Shelf(shared=max(encoders.values(), default=0) > 1)
    teacher: Heard | None = None
    for name in bench.models(models):
        if not bench.contenders[name].knows(way):
            continue
        heard = bench.hear(name, corpus, way, shelf, condition, change, changed)
        if heard is None:
            continue
        is_teacher = name == bench.suite.teacher
        if is_teacher:
            teacher = heard
        if way.decoding == "short" and not condition:
            bench.heard.setdefault(corpus.name, {})[name] = heard
        yield (
            "cells",
            measured(
                heard,
                measurement=measurement,
                model=name,
                set=corpus.name,
                decoding=way.decoding,
                condition=condition,
                chunk_length=way.chunk_length,
                teacher=None if is_teacher else teacher,
            ),
        )


def speed(bench: Bench, table: SpeedTable) -> Found:
    """Networks in turns, at each batch size; found again for the same networks on the same device."""
    import torch

    from whisperstill.evaluate.memory import peak_mib, weights_mib
    from whisperstill.evaluate.speed import STEPS, measure_speed
    from whisperstill.units import WINDOW_SECONDS

    ours = [(name, one) for name in bench.models(table.models) if isinstance(one := bench.contenders[name], Own)]
    for size in table.batch_sizes:
        key = bench.outcomes.key(
            speed=[one.identity for _, one in ours],
            batch_size=size,
            rounds=table.rounds,
            threads=torch.get_num_threads(),
        )
        found = bench.outcomes.find(key)
        if found is None:
            bench.console.info(f"timing {', '.join(name for name, _ in ours)} at batch {size}")
            networks = [one.recogniser.network for _, one in ours]
            taken = measure_speed(networks, rounds=table.rounds, batch_size=size)
            found = {
                "rows": [
                    {
                        "encoder_ms_per_window": one.encoder_ms_per_window,
                        "decoder_ms_per_token": one.decoder_ms_per_token,
                        "latency_ms": one.latency_ms,
                        "real_time_factor": one.latency_ms / 1000 / (WINDOW_SECONDS * size),
                        "tokens": STEPS,
                        "weights_mib": weights_mib(network),
                        "peak_mib": peak_mib(contender.measured.source, size, bench.device, contender.measured.dtype),
                    }
                    for one, network, (_, contender) in zip(taken, networks, ours, strict=True)
                ]
            }
            bench.outcomes.keep(key, found)
        for (name, _), row in zip(ours, found["rows"], strict=True):
            yield "speeds", Speed(model=name, batch_size=size, **row)


def speculative(bench: Bench, table: Speculative) -> Found:
    """The teacher with each student as its draft, at each batch size, and a few utterances token by token."""
    import torch

    from whisperstill.evaluate.speculative import compare, shown

    teacher = bench.contenders.get(bench.suite.teacher or "")
    if not isinstance(teacher, Own):
        raise SettingsError("speculation needs a teacher in our own engine")
    corpora = bench.sets(table.sets, lambda one: not one.long and not one.asked.non_speech)
    parts = [(corpus.name, one) for corpus in corpora for one in spread(corpus.short, table.limit)]
    utterances = [one for _, one in parts]
    if not utterances:
        raise SettingsError("speculation needs a set of utterances up to 30 s")
    for name in bench.suite.students:
        student = bench.contenders.get(name)
        if not isinstance(student, Own):
            continue
        assisted: Recogniser | None = None
        for size in table.batch_sizes:
            key = bench.outcomes.key(
                teacher=teacher.identity,
                draft=student.identity,
                batch_size=size,
                corpora=[one.sha256 for one in corpora],
                limit=table.limit,
                threads=torch.get_num_threads(),
            )
            found = bench.outcomes.find(key)
            if found is None:
                assisted = assisted or teacher.assisted_by(student.checkpoint)
                seconds = sum(one.audio.duration for one in utterances)
                with bench.console.progress(f"{name} drafts at batch {size}", seconds, "s") as bar:
                    sums = compare(teacher.recogniser, assisted, utterances, size, bar.advance)
                found = {
                    "seconds_alone": sums.encoder_seconds + sums.alone_seconds,
                    "seconds_with_draft": sums.encoder_seconds + sums.draft_seconds,
                    "encoder_seconds": sums.encoder_seconds,
                    "utterances": sums.utterances,
                    "identical": sums.identical,
                    "accepted": 100 * sums.counts.acceptance,
                    "tokens_per_step": sums.counts.tokens_per_verification,
                    "skipped": {one.source: one.reason for one in sums.skipped},
                }
                bench.outcomes.keep(key, found)
            bench.skipped |= found["skipped"]
            figures = {key: value for key, value in found.items() if key != "skipped"}
            yield (
                "speculations",
                SpeculationMeasured(model=teacher.measured.name, draft=name, batch_size=size, **figures),
            )
        if table.shown:
            assisted = assisted or teacher.assisted_by(student.checkpoint)
            for name_of_set, one in spread(parts, table.shown):
                yield "drafts", shown(assisted, one, name_of_set)


def worst(bench: Bench, table: WorstOf) -> Found:
    """Utterances that the student (else the last model) does worst on, of what `short_form` and `non_speech` heard."""
    from whisperstill.evaluate.worst import worst as worst_of

    there = list(bench.contenders)
    judged = next((name for name in bench.suite.students if name in there), there[-1])
    if not bench.heard:
        raise SettingsError("utterances are taken from what [short_form] or [non_speech] heard: nothing was")
    first = [bench.suite.teacher] if bench.suite.teacher else []
    for name, by_model in bench.heard.items():
        if judged in by_model:
            for one in worst_of(name, "", by_model, judged, table.most, first):
                yield "worst", one


def include(bench: Bench, table: Include) -> Found:
    """Ablations, training curves and the filter's ledger, as they were left elsewhere."""
    for place in table.ablations:
        with bench.noting(f"ablations {place}"):
            content = read_json(Path(place))
            if "ablations" not in content:
                raise NotFoundError(f"expected ablations.json, as `whisperstill ablate` leaves it, at {place}")
            for one in content["ablations"]:
                yield "ablations", from_plain(Ablation, one)
    given: dict[str, int] = {}
    if table.filtered:
        with bench.noting(f"filter {table.filtered}"):
            given = ledger(Path(table.filtered))
            if not given:
                raise NotFoundError(f"expected what `whisperstill filter` leaves in {table.filtered}")
    for name in bench.suite.students:
        student = Path(bench.suite.models[name].model)
        labels = read_json(marker(student)).get("settings", {}).get("labels")
        points, kept = curve(student / "metrics.jsonl"), ledger(Path(labels)) if labels else {}
        if points or kept or given:
            yield "trainings", Training(name, points, kept or given)


def ledger(filtered: Path) -> dict[str, int]:
    """What a filter kept, and what it dropped by which rule; empty where there was none."""
    content = read_json(filtered / "filter.json")
    return {"kept": content["kept"], **content["dropped"]} if "kept" in content else {}


def curve(path: Path) -> tuple[CurvePoint, ...]:
    """The points of a training's metrics.jsonl; none where there is none."""
    import json

    try:
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line]
    except (OSError, ValueError):
        return ()
    points: dict[int, CurvePoint] = {}
    for line in lines:
        kept = points.get(line["step"], CurvePoint(line["step"]))
        points[line["step"]] = replace(
            kept,
            loss=line.get("loss", kept.loss),
            validation_wer=line.get("validation_wer", kept.validation_wer),
        )
    return tuple(points[step] for step in sorted(points))


MEASURES: dict[str, Callable[[Bench, Any], Found]] = {
    "short_form": short_form,
    "non_speech": non_speech,
    "long_form": long_form,
    "chunk_length": chunk_length,
    "noise": noise,
    "speed": speed,
    "speculative": speculative,
    "worst": worst,
    "include": include,
}
"""In this order; `worst` takes from what others heard before it."""
