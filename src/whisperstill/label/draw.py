"""Fewer hours out of many: which utterances are taken when only so many hours may teach.

Windows of the first packing are drawn whole, in the order of a hash of their names, so that what fewer hours hold is a
part of what more hours hold, and a window that teaches is full. The same utterances are kept in every packing.
"""

import hashlib
from collections.abc import Iterable, Set
from dataclasses import replace

from whisperstill.errors import SettingsError
from whisperstill.records import Utterance
from whisperstill.records.labelled import Judged, Verdict

NOT_DRAWN = "not_drawn"
"""Rule of the verdict on utterances that the rules would keep and the draw leaves out."""


def drawn(everything: Iterable[Judged], hours: float) -> Set[tuple[str, str]]:
    """(corpus, id) of utterances that make up at most so many hours of what is kept.

    Raises `SettingsError` for no hours at all.
    """
    if not hours > 0:
        raise SettingsError(f"max_hours must be above 0, got {hours:g}")
    windows: dict[str, list[Utterance]] = {}
    for judged in everything:
        window = judged.labelled.window
        if window.packing == 0:
            pairs = zip(judged.labelled.evidence, judged.verdicts, strict=True)
            windows[window.id] = [seen.utterance for seen, verdict in pairs if verdict.kept]
    found: set[tuple[str, str]] = set()
    seconds = 0.0
    for name in sorted(windows, key=lambda name: hashlib.sha256(name.encode()).hexdigest()):
        seconds += sum(one.audio.duration for one in windows[name])
        if seconds > hours * 3600:
            break
        found |= {(one.corpus, one.id) for one in windows[name]}
    return found


def among(judged: Judged, chosen: Set[tuple[str, str]]) -> Judged:
    """The same verdicts, but for utterances that were not drawn."""
    verdicts = []
    for seen, verdict in zip(judged.labelled.evidence, judged.verdicts, strict=True):
        left_out = verdict.kept and (seen.utterance.corpus, seen.utterance.id) not in chosen
        verdicts.append(Verdict(False, NOT_DRAWN, 0.0) if left_out else verdict)
    return replace(judged, verdicts=tuple(verdicts))
