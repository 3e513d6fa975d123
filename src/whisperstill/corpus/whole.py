"""Recordings whole again, where a manifest gives them as segments: for tests of long-form transcription."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import TypeVar

from whisperstill.corpus.corpus import Corpus
from whisperstill.records import AudioSpan, Utterance

Value = TypeVar("Value", bound=Hashable)


def joined(corpus: Corpus) -> Corpus:
    """One utterance per audio file, from where its first utterance starts to where the last one ends.

    Its text is theirs in order of time, None where one of them has none; its language and speaker are what they agree
    on. It is called by its session, or by its file where the session has several. Files of one utterance stay.
    """
    files: dict[str, list[Utterance]] = defaultdict(list)
    for one in corpus.utterances:
        files[one.audio.path].append(one)
    spread = Counter(session for parts in files.values() for session in {one.session for one in parts})
    recordings = []
    for path, parts in files.items():
        session = _common([one.session for one in parts])
        name = session if session is not None and spread[session] == 1 else PurePath(path).with_suffix("").as_posix()
        recordings.append(parts[0] if len(parts) == 1 else _one(name, path, parts))
    return replace(corpus, utterances=tuple(recordings))


def _one(name: str, path: str, parts: list[Utterance]) -> Utterance:
    parts = sorted(parts, key=lambda one: one.audio.start)
    start = parts[0].audio.start
    end = max(one.audio.start + one.audio.duration for one in parts)
    texts = [one.text for one in parts]
    return replace(
        parts[0],
        id=name,
        audio=AudioSpan(path, start, round(end - start, 6)),
        text=None if None in texts else " ".join(text for text in texts if text),
        language=_common([one.language for one in parts]),
        speaker=_common([one.speaker for one in parts]),
        session=_common([one.session for one in parts]),
    )


def _common(values: Sequence[Value]) -> Value | None:
    return values[0] if len(set(values)) == 1 else None
