"""What was said that nobody said (the paper's section 5.3), what was left out, and words where nobody speaks."""

from collections.abc import Sequence
from typing import Literal

from whisperstill.evaluate.report.accuracy import GROUP
from whisperstill.evaluate.report.blocks import NOTHING, Row, Section, Table, Value, columns, row
from whisperstill.evaluate.report.numbers import count, figure
from whisperstill.evaluate.report.view import View, condition_words
from whisperstill.records.findings import Cell

_FIGURES = (
    *("5-Dup", "in references", "beyond them", "Inserted %", "Substituted %", "Deleted %"),
    *("Length", "Loops", "Longest hole"),
)

BARE = "short"
"""Decoding of a clip without anything that guards against made-up words."""


def hallucination(view: View) -> Section | None:
    """Repeats, insertions, loops and holes of speech, pooled over sets; words in recordings without speech."""
    tables = [table for table in (_speech(view), _non_speech(view), _strategies(view)) if table]
    if not tables:
        return None
    return Section("hallucination", "Hallucination", GROUP, _lead(view), tables=tuple(tables))


def _speech(view: View) -> Table | None:
    parts: dict[str, dict[str, list[Cell]]] = {}
    for model in view.models:
        if cells := view.short_cells(model.name):
            parts.setdefault("Short form", {})[model.name] = cells
    for model in view.models:
        if best := view.best_strategy(model.name):
            parts.setdefault("Long form, each by its best strategy", {})[model.name] = best[1]
    if not parts:
        return None
    rows: list[Row] = []
    for title, models in parts.items():
        if len(parts) > 1:
            rows.append(row(title, kind="group"))
        rows += [_speech_row(view.label(name), cells) for name, cells in models.items()]
    return Table(
        id="hallucination-speech",
        title="Where somebody speaks",
        columns=columns("Model", figures=_FIGURES),
        rows=tuple(rows),
        caption="Pooled over sets. 5-Dup: 5-grams of the output less distinct ones; beside it the same of the "
        "references, which is what speakers repeated themselves, and what goes beyond that. Length: words heard over "
        "words said, 95th (99th) percentile of utterances, of the set where it is largest. Loops: utterances with "
        "a group of words over and over. Longest hole: most words in a row that were left out.",
    )


def _strategies(view: View) -> Table | None:
    """Long recordings by every strategy, where there are several."""
    rows: list[Row] = []
    for model in view.models:
        strategies = view.strategies(model.name)
        if len(strategies) > 1:
            rows.append(row(view.label(model.name), kind="group"))
            rows += [_speech_row(strategy, cells) for strategy, cells in strategies.items()]
    if not rows:
        return None
    return Table(
        id="hallucination-strategies",
        title="Long form by every strategy",
        columns=columns("Strategy", figures=_FIGURES),
        rows=tuple(rows),
        folded=True,
    )


def _speech_row(name: str, cells: Sequence[Cell]) -> Row:
    words = sum(cell.words for cell in cells)
    found = [cell.hallucination for cell in cells]
    return row(
        name,
        count(sum(one.repeated_five_grams for one in found)),
        count(sum(one.repeated_in_reference for one in found)),
        count(sum(one.repeated_beyond_reference for one in found)),
        *(
            Value(figure(100 * errors / words if words else None))
            for errors in (
                sum(cell.insertions for cell in cells),
                sum(cell.substitutions for cell in cells),
                sum(cell.deletions for cell in cells),
            )
        ),
        Value(
            figure(max(one.length_ratio_95 for one in found), 2),
            f"({figure(max(one.length_ratio_99 for one in found), 2)})",
        ),
        count(sum(one.runaways for one in found)),
        count(max(one.longest_deletion for one in found)),
    )


def _non_speech(view: View) -> Table | None:
    cells = view.select("non_speech")
    if not cells:
        return None
    names = [model.name for model in view.models if any(cell.model == model.name for cell in cells)]
    ways = dict.fromkeys(cell.decoding for cell in cells)
    rows: list[Row] = []
    for way in ways:
        inside = [cell for cell in cells if cell.decoding == way]
        if len(ways) > 1:
            rows.append(row("Bare" if way == BARE else f"With guards ({way})", kind="group"))
        sets = dict.fromkeys((cell.set, cell.condition) for cell in inside)
        for name, condition in sets:
            title = f"{name}, {condition_words(condition)}" if condition else name
            rows.append(_non_speech_row(title, [c for c in inside if (c.set, c.condition) == (name, condition)], names))
        if len(sets) > 1:
            rows.append(_non_speech_row("All", inside, names, kind="total"))
    return Table(
        id="hallucination-non-speech",
        title="Words heard where nobody speaks",
        columns=columns("Set", figures=("Clips", "Hours", *map(view.label, names))),
        rows=tuple(rows),
        caption="Every word here was made up; in brackets how many clips have any. Bare: each clip decoded greedily "
        "and believed.",
    )


def _non_speech_row(title: str, cells: Sequence[Cell], names: Sequence[str], kind: Literal["", "total"] = "") -> Row:
    values = []
    for name in names:
        own = [cell for cell in cells if cell.model == name]
        words = sum(cell.hallucination.words_on_non_speech for cell in own)
        clips = sum(cell.hallucination.clips_with_words for cell in own)
        values.append(Value(count(words), f"({count(clips)} of {count(_clips(own))})") if own else NOTHING)
    first = [cell for cell in cells if cell.model == cells[0].model]
    hours = figure(sum(cell.hours for cell in first), 2)
    return row(title, count(_clips(first)), hours, *values, kind=kind)


def _clips(cells: Sequence[Cell]) -> int:
    return sum(cell.hallucination.clips_non_speech or cell.utterances for cell in cells)


def _lead(view: View) -> str:
    """Two models in words: what the main one inserts and invents, beside the teacher."""
    if view.teacher is None or view.main is None or view.main is view.teacher:
        return ""
    said = []
    own, teachers = (pooled_insertions(view, name) for name in (view.main.name, view.teacher.name))
    name, teacher = view.label(view.main.name), view.label(view.teacher.name)
    if own is not None and teachers is not None:
        said.append(f"{name} inserts {figure(own, 2)} words for 100 spoken, {teacher} {figure(teachers, 2)}.")
    heard, of_teacher = (invented(view, one) for one in (view.main.name, view.teacher.name))
    if heard and of_teacher:
        words = f"{count(heard[0])} words, {teacher} {count(of_teacher[0])}"
        said.append(f"In {count(heard[1])} clips without speech it hears {words}.")
    return " ".join(said)


def pooled_insertions(view: View, model: str) -> float | None:
    """Words inserted for 100 spoken, over all sets of the short form; None where there are none."""
    cells = view.short_cells(model)
    words = sum(cell.words for cell in cells)
    return 100 * sum(cell.insertions for cell in cells) / words if words else None


def invented(view: View, model: str, *, guarded: bool = False) -> tuple[int, int] | None:
    """(words heard, clips) where nobody speaks, by the bare model or with guards; None where not measured."""
    cells = [cell for cell in view.select("non_speech") if cell.model == model and (cell.decoding != BARE) == guarded]
    return (sum(cell.hallucination.words_on_non_speech for cell in cells), _clips(cells)) if cells else None
