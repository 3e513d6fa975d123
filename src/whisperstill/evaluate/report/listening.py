"""Utterances worth listening to, as they are shown: the sound, what was said, and what each model made of it.

Neighbours of one kind are joined, and runs that are long (a loop of two hundred words) are cut, with their length said.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from whisperstill.errors import AudioError
from whisperstill.evaluate.report.clips import MOST_SECONDS, clip
from whisperstill.evaluate.report.numbers import count, figure, plural
from whisperstill.evaluate.report.view import View, condition_words
from whisperstill.records.findings import DraftShown, Step, Worst

MOST_BYTES = 12_000_000
"""Of sound in a page; the utterances after that are shown without."""
MOST_WORDS = 24
"""Of a run of words left out or made up that are shown."""
MOST_EQUAL = 80
"""Of a run of words heard right."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Words of one kind: `equal`, `substituted` (one word), `deleted`, `inserted`, `cut` (how many are not shown)."""

    kind: str
    text: str
    said: str = ""
    """What a substituted word stands for."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A model's line."""

    name: str
    errors: str
    pieces: tuple[Piece, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Clip:
    """One utterance."""

    title: str
    facts: str
    reference: str
    lines: tuple[Heard, ...]
    language: str = ""
    sound: str = ""
    """Address of the sound; empty where it is left out."""
    note: str = ""
    """Why there is no sound, or not all of it."""


def clips(view: View, audio: bool) -> list[Clip]:
    """All utterances worth listening to; with their sound, where `audio` says so and the recording is there."""
    languages = {one.name: one.language for one in view.sets}
    found: list[Clip] = []
    for worst in view.findings.worst:
        room = MOST_BYTES - sum(len(one.sound) for one in found)
        found.append(_clip(view, worst, languages.get(worst.set, ""), audio, room))
    return found


def _clip(view: View, worst: Worst, language: str, audio: bool, room: int) -> Clip:
    sound, note = "", ""
    if audio and room <= 0:
        note = "The sound is left out: the page would be too large."
    elif audio:
        try:
            sound = clip(worst.audio, worst.start, worst.duration)
            note = f"The first {MOST_SECONDS:g} seconds." if worst.duration > MOST_SECONDS else ""
        except AudioError:
            note = "The recording was not there when this page was made."
    facts = [worst.set, f"{figure(worst.duration)} s", *([condition_words(worst.condition)] if worst.condition else [])]
    return Clip(
        title=f"{worst.why[:1].upper()}{worst.why[1:]}: {worst.id}",
        facts=" · ".join(facts),
        reference=worst.reference,
        lines=tuple(
            Heard(view.label(one.model), plural(one.errors, "error"), tuple(pieces(one.steps)), one.text)
            for one in worst.alignments
        ),
        language=language,
        sound=sound,
        note=note,
    )


def pieces(steps: Sequence[Step]) -> Iterable[Piece]:
    """An alignment as what is shown of it."""
    for kind, group in groupby(steps, key=lambda step: step.kind):
        run = list(group)
        if kind == "s":
            yield from (Piece("substituted", step.heard, step.reference) for step in run)
        elif kind == "=":
            yield from _words("equal", [step.heard for step in run], MOST_EQUAL, tail=MOST_EQUAL // 3)
        elif kind == "d":
            yield from _words("deleted", [step.reference for step in run], MOST_WORDS)
        else:
            yield from _words("inserted", [step.heard for step in run], MOST_WORDS)


def _words(kind: str, words: Sequence[str], most: int, tail: int = 0) -> Iterable[Piece]:
    if len(words) <= most:
        yield Piece(kind, " ".join(words))
        return
    head = most - tail
    yield Piece(kind, " ".join(words[:head]))
    what = {"equal": "heard right", "deleted": "left out", "inserted": "made up"}[kind]
    yield Piece("cut", f"… {count(len(words) - most)} more words {what} …")
    if tail:
        yield Piece(kind, " ".join(words[-tail:]))


def draft_facts(draft: DraftShown) -> str:
    """How a draft fared, in a sentence."""
    kinds = [token.kind for token in draft.tokens]
    accepted, corrected = kinds.count("accepted"), kinds.count("corrected")
    proposed = accepted + corrected
    share = f" ({figure(100 * accepted / proposed, 0)} %)" if proposed else ""
    return (
        f"{plural(len(kinds), 'token')} in {plural(draft.passes, 'pass', 'passes')} of the teacher; "
        f"{count(accepted)} proposals accepted{share}, {count(corrected)} corrected."
    )
