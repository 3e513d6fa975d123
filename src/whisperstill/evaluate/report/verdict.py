"""The report on one screen: what a student costs and gives against its teacher, in figures and in plain words.

A difference is called one only where its interval leaves out zero; a student that is worse is called worse.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from whisperstill.evaluate.report.hallucination import invented, pooled_insertions
from whisperstill.evaluate.report.numbers import count, figure, millions, one_of, plural, rate, signed, times
from whisperstill.evaluate.report.view import View, mean, mean_paired
from whisperstill.records.findings import Cell, ModelMeasured

Badge = Literal["", "better", "worse", "no clear difference", "smaller", "larger", "faster", "slower"]


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure of the verdict, with what the teacher has, and what that means."""

    label: str
    value: str
    aside: str
    sentence: str
    badge: Badge = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said first."""

    sentence: str
    tiles: tuple[Tile, ...]
    others: tuple[str, ...] = ()
    """A sentence for every contender but the first."""


@dataclass(frozen=True, slots=True)
class _Heard:
    """Mean error rates of a model and of its teacher over the sets that both were measured on."""

    own: float
    low: float
    high: float
    teacher: float | None
    paired: tuple[float, float, float] | None
    words: int
    unit: str
    """`words`, `characters`, or both."""
    worse: int
    """Sets on which it is surely worse than the teacher, each on its own."""
    better: int
    sets: int

    @property
    def badge(self) -> Badge:
        if self.teacher is None:
            return ""
        if self.paired is None:
            return "no clear difference" if self.low <= self.teacher <= self.high else self._by_sign()
        return "no clear difference" if self.paired[1] <= 0 <= self.paired[2] else self._by_sign()

    def _by_sign(self) -> Badge:
        return "worse" if self.teacher is not None and self.own > self.teacher else "better"


def verdict(view: View) -> Verdict | None:
    """The verdict on the first student; None where no model was measured."""
    if view.main is None:
        return None
    others = [_sentence(view, model) for model in view.contenders if model is not view.main and view.teacher]
    return Verdict(_sentence(view, view.main), tuple(_tiles(view, view.main)), tuple(others))


def _teacher_of(view: View, model: ModelMeasured) -> ModelMeasured | None:
    return view.teacher if view.teacher is not model else None


def _heard(view: View, own: Sequence[Cell], teachers: Sequence[Cell]) -> _Heard | None:
    of_teacher = {cell.set: cell for cell in teachers}
    if of_teacher:
        own = [cell for cell in own if cell.set in of_teacher]
    rates = mean(own)
    if rates is None:
        return None
    theirs = mean([of_teacher[cell.set] for cell in own]) if of_teacher else None
    same = all(of_teacher[cell.set].decoding == cell.decoding for cell in own) if of_teacher else False
    pairs = mean_paired(own) if same and all(cell.against_teacher for cell in own) else None
    return _Heard(
        own=rates.value,
        low=rates.low,
        high=rates.high,
        teacher=theirs.value if theirs else None,
        paired=(pairs.value, pairs.low, pairs.high) if pairs else None,
        words=sum(cell.words for cell in own),
        unit=view.counted([cell.set for cell in own]),
        worse=sum(cell.against_teacher is not None and cell.against_teacher.low > 0 for cell in own),
        better=sum(cell.against_teacher is not None and cell.against_teacher.high < 0 for cell in own),
        sets=len(own),
    )


def _short(view: View, model: ModelMeasured, in_distribution: bool | None) -> _Heard | None:
    teacher = _teacher_of(view, model)
    theirs = view.short_cells(teacher.name, in_distribution=in_distribution) if teacher else []
    return _heard(view, view.short_cells(model.name, in_distribution=in_distribution), theirs)


def _sentence(view: View, model: ModelMeasured) -> str:
    name, teacher = view.label(model.name), _teacher_of(view, model)
    far = _short(view, model, in_distribution=False)
    heard, where = (far, " out of distribution") if far else (_short(view, model, None), "")
    if teacher is None:
        made = (
            f"{name} makes {figure(heard.own)} errors in 100 {heard.unit}{where}" if heard else f"{name} was measured"
        )
        if model is view.teacher:
            return f"{made}. Nothing was measured beside it, so nothing here says what a student loses or gains."
        return f"{made}. No teacher was measured beside it, so nothing here says what it lost or gained."
    them = view.label(teacher.name)
    speed = view.relative_speed(model.name)
    gains = [f"is {figure(speed, 1)} times as fast as {them}"] if speed else []
    if model.parameters and teacher.parameters:
        gains.append(f"has {_fewer(model.parameters / teacher.parameters)} parameters")
    said = f"{name} {' and '.join(gains)}, and" if gains else name
    if heard is None or heard.teacher is None:
        return f"{said.removesuffix(', and')}." if gains else f"{name} stands beside {them}."
    both = f"{figure(heard.own)} errors in 100 {heard.unit}{where}, {them} {figure(heard.teacher)}"
    if heard.badge == "no clear difference" and (heard.worse or heard.better):
        apart = one_of(
            [f"{what} on {number}" for what, number in (("worse", heard.worse), ("better", heard.better)) if number]
        )
        return f"{said} hears no differently in the mean, but {apart} of {plural(heard.sets, 'set')}: {both}."
    if heard.badge == "no clear difference":
        return f"{said} hears as well as these data can tell: {both}."
    if heard.badge == "better":
        return f"{said} hears better: {both}."
    ratio = heard.own / heard.teacher if heard.teacher else float("inf")
    how = "far worse" if ratio >= 2 else "worse" if ratio >= 1.1 else "slightly worse"
    return f"{said.removesuffix(' and')} but hears {how}: {both}." if gains else f"{said} hears {how}: {both}."


def _fewer(share: float) -> str:
    if abs(share - 1) < 0.005:
        return "as many"
    change = f"{figure(100 * abs(1 - share), 0)} %"
    return f"{change} fewer" if share < 1 else f"{change} more"


def _tiles(view: View, model: ModelMeasured) -> list[Tile]:
    far = bool(_short(view, model, in_distribution=False))
    near_label = "WER, in distribution" if far else "WER, short form"
    tiles = [
        _size(view, model),
        _speed(view, model),
        _errors(view, model, near_label, _short(view, model, in_distribution=True)),
        _errors(view, model, "WER, out of distribution", _short(view, model, in_distribution=False)),
        _long(view, model),
        _hallucination(view, model),
        _draft(view, model),
    ]
    return [tile for tile in tiles if tile]


def _size(view: View, model: ModelMeasured) -> Tile | None:
    if not model.parameters:
        return None
    teacher = _teacher_of(view, model)
    value = f"{millions(model.parameters)} M"
    if teacher is None or not teacher.parameters:
        layers = f"{model.encoder_layers} encoder and {model.decoder_layers} decoder layers."
        return Tile("Parameters", value, "", layers if model.decoder_layers else "")
    share = model.parameters / teacher.parameters
    sentence = f"{_fewer(share).capitalize()} parameters than {view.label(teacher.name)}"
    if abs(share - 1) < 0.005:
        sentence = f"As many parameters as {view.label(teacher.name)}"
    if model.decoder_layers and model.decoder_layers != teacher.decoder_layers:
        sentence += f": {model.decoder_layers} decoder layers instead of {teacher.decoder_layers}"
    badge: Badge = "" if abs(share - 1) < 0.005 else "smaller" if share < 1 else "larger"
    aside = f"{view.label(teacher.name)} {millions(teacher.parameters)} M"
    return Tile("Parameters", value, aside, f"{sentence}.", badge)


def _speed(view: View, model: ModelMeasured) -> Tile | None:
    own, teacher = view.speed(model.name), _teacher_of(view, model)
    if own is None:
        return None
    ratio = view.relative_speed(model.name) if teacher else None
    theirs = view.speed(teacher.name) if teacher else None
    if teacher is None or theirs is None or ratio is None:
        seen = f"From a 30-second window to its text of {own.tokens} tokens, at batch 1."
        return Tile("Latency", f"{figure(own.latency_ms, 0)} ms", "", seen)
    them = view.label(teacher.name)
    sentence = f"A window's text takes {figure(own.latency_ms, 0)} ms instead of {figure(theirs.latency_ms, 0)}."
    sizes = sorted({one.batch_size for one in view.findings.speeds if one.model == model.name})
    last, last_theirs = view.speed(model.name, sizes[-1]), view.speed(teacher.name, sizes[-1])
    if len(sizes) > 1 and last and last_theirs and last.latency_ms:
        sentence += f" At batch {sizes[-1]} it is {times(last_theirs.latency_ms / last.latency_ms)}."
    badge: Badge = "faster" if ratio >= 1.05 else "slower" if ratio < 0.95 else "no clear difference"
    return Tile("Speed at batch 1", times(ratio), f"{them} 1×", sentence, badge)


def _errors(view: View, model: ModelMeasured, label: str, heard: _Heard | None, note: str = "") -> Tile | None:
    if heard is None:
        return None
    value = rate(heard.own, heard.low, heard.high)
    teacher = _teacher_of(view, model)
    if teacher is None or heard.teacher is None:
        return Tile(label, f"{value.text} %", value.aside, f"Of {count(heard.words)} {heard.unit}.{note}")
    them = view.label(teacher.name)
    change = heard.own - heard.teacher
    size = f"{figure(abs(change))} points {'more' if change > 0 else 'fewer'}"
    if heard.paired:
        middle, low, high = heard.paired
        inside = f"95 %: {signed(low)} to {signed(high)}"
        size = f"{figure(abs(middle))} points {'more' if middle > 0 else 'fewer'}"
    else:
        inside = "not paired"
    sentence = f"{size} than {them} ({inside})"
    if heard.badge == "no clear difference":
        sentence = (
            f"No difference to {them} that {count(heard.words)} {heard.unit} can show ({signed(change)}; {inside})"
        )
    aside = f"{value.aside} · {them} {figure(heard.teacher)}".removeprefix(" · ")
    return Tile(label, f"{value.text} %", aside, f"{sentence}.{note}", heard.badge)


def _long(view: View, model: ModelMeasured) -> Tile | None:
    sets = view.far_long_sets
    own, teacher = view.best_strategy(model.name, sets), _teacher_of(view, model)
    theirs = view.best_strategy(teacher.name, sets) if teacher else None
    if own is None:
        return None
    note = f" By {own[0]}."
    if theirs and teacher:
        alike = own[0] == theirs[0]
        note = f" Both by {own[0]}." if alike else f" By {own[0]}; {view.label(teacher.name)} by {theirs[0]}."
    return _errors(view, model, "WER, long form", _heard(view, own[1], theirs[1] if theirs else []), note)


def _hallucination(view: View, model: ModelMeasured) -> Tile | None:
    teacher = _teacher_of(view, model)
    own, silent = pooled_insertions(view, model.name), invented(view, model.name)
    if own is None and silent is None:
        return None
    them = view.label(teacher.name) if teacher else ""
    theirs = pooled_insertions(view, teacher.name) if teacher else None
    said = []
    if own is not None:
        loops = sum(cell.hallucination.runaways for cell in view.short_cells(model.name))
        said.append(plural(loops, "loop"))
        if teacher and theirs is not None:
            of_teacher = sum(cell.hallucination.runaways for cell in view.short_cells(teacher.name))
            said[-1] += f" ({them} {count(of_teacher)})"
    if silent is not None:
        said.append(f"{plural(silent[0], 'word')} in {plural(silent[1], 'clip')} without speech")
        if guarded := invented(view, model.name, guarded=True):
            said[-1] += f", with guards {count(guarded[0])}"
        if teacher and (empty := invented(view, teacher.name)):
            said[-1] += f" ({them} {count(empty[0])})"
    sentence = f"{'; '.join(said)}."
    if own is None and silent is not None:
        return Tile("Hallucination", count(silent[0]), "words where nobody speaks", sentence)
    aside = f"{them} {figure(theirs, 2)}" if theirs is not None else ""
    return Tile("Words made up for 100 said", figure(own, 2), aside, sentence)


def _draft(view: View, model: ModelMeasured) -> Tile | None:
    found = sorted((one for one in view.findings.speculations if one.draft == model.name), key=lambda o: o.batch_size)
    found = [one for one in found if one.seconds_with_draft]
    if not found:
        return None
    first, rest = found[0], found[1:]
    also = one_of([f"{figure(one.speed_up, 2)}× at batch {one.batch_size}" for one in rest])
    sentence = (
        f"{view.label(first.model)} with it as a draft, at batch {first.batch_size}{f'; {also}' if also else ''}."
    )
    exact = all(one.identical == one.utterances for one in found)
    sentence += " Same text." if exact else " The text is not always the same."
    badge: Badge = "faster" if first.speed_up >= 1.05 else "slower" if first.speed_up < 0.95 else "no clear difference"
    return Tile("As a draft", f"{figure(first.speed_up, 2)}×", f"{view.label(first.model)} alone 1×", sentence, badge)
