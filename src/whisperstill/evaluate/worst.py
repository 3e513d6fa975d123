"""Utterances worth listening to: the worst of each kind of failure, aligned word by word.

One utterance stands once, under the first reason that holds. Reasons take turns, so that fifty deletions do not hide
the one loop.
"""

from collections.abc import Callable, Mapping, Sequence

from whisperstill.evaluate.hallucination import is_runaway, longest_deletion
from whisperstill.evaluate.measure import Heard
from whisperstill.label.repeats import longest_repeat
from whisperstill.records.findings import Alignment, Step, Worst
from whisperstill.text.edits import Pair

Badness = Callable[[Heard, int], float]
"""How bad the utterance at an index is; 0 where it is not bad in this way."""


def _loop(heard: Heard, at: int) -> float:
    runs = is_runaway(heard.references[at], heard.words[at])
    return float(longest_repeat(heard.words[at])) if runs else 0.0


def _made_up(heard: Heard, at: int) -> float:
    return 0.0 if heard.references[at] else float(len(heard.words[at]))


def _insertions(heard: Heard, at: int) -> float:
    return float(heard.edits[at].insertions)


def _left_out(heard: Heard, at: int) -> float:
    return float(longest_deletion(heard.alignments[at]))


def _errors(heard: Heard, at: int) -> float:
    return heard.edits[at].rate if heard.references[at] else 0.0


REASONS: tuple[tuple[str, Badness, float], ...] = (
    ("loop", _loop, 1.0),
    ("words where nobody speaks", _made_up, 1.0),
    ("insertions", _insertions, 3.0),
    ("deletions", _left_out, 3.0),
    ("errors", _errors, 0.1),
)
"""Name, badness, and the least of it that is worth a listen."""


def worst(
    name: str, condition: str, by_model: Mapping[str, Heard], judged: str, most: int, first: Sequence[str] = ()
) -> list[Worst]:
    """Up to `most` utterances of a set that `judged` does worst on; the models named `first` are shown first."""
    heard = by_model[judged]
    queues = []
    for why, badness, least in REASONS:
        scored = [(badness(heard, at), at) for at in range(len(heard.utterances))]
        queues.append((why, [at for bad, at in sorted(scored, key=lambda one: (-one[0], one[1])) if bad >= least]))
    chosen: dict[int, str] = {}
    while len(chosen) < most and any(queue for _, queue in queues):
        for why, queue in queues:
            while queue and queue[0] in chosen:
                queue.pop(0)
            if queue and len(chosen) < most:
                chosen[queue.pop(0)] = why
    order = [*(model for model in first if model in by_model), *(model for model in by_model if model not in first)]
    return [
        _shown(name, condition, why, at, heard, {model: by_model[model] for model in order})
        for at, why in chosen.items()
    ]


def _shown(name: str, condition: str, why: str, at: int, heard: Heard, by_model: Mapping[str, Heard]) -> Worst:
    one = heard.utterances[at]
    aligned = []
    for model, other in by_model.items():
        places = {utterance.id: place for place, utterance in enumerate(other.utterances)}
        if one.id in places:
            place = places[one.id]
            steps = steps_of(other.references[place], other.words[place], other.alignments[place])
            aligned.append(Alignment(model, other.texts[place], other.edits[place].errors, steps))
    return Worst(
        set=name,
        id=one.id,
        why=why,
        condition=condition,
        audio=one.audio.path,
        start=one.audio.start,
        duration=one.audio.duration,
        reference=one.text or "",
        alignments=tuple(aligned),
    )


def steps_of(reference: Sequence[str], heard: Sequence[str], pairs: Sequence[Pair]) -> tuple[Step, ...]:
    """An alignment in words."""
    steps = []
    for mine, theirs in pairs:
        said = "" if mine is None else reference[mine]
        got = "" if theirs is None else heard[theirs]
        kind = "i" if mine is None else "d" if theirs is None else "=" if said == got else "s"
        steps.append(Step(kind, said, got))
    return tuple(steps)
