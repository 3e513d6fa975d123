"""Labelling plan: corpora are read, checked, packed into windows, and the windows are split into shards."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from whisperstill.corpus import read_corpus
from whisperstill.corpus.packing import pack, split_long
from whisperstill.errors import CorpusError, SettingsError
from whisperstill.label.settings import LabelSettings
from whisperstill.records import Skipped, Utterance, Window
from whisperstill.text.languages import language_code
from whisperstill.text.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class ShardSpec:
    """A shard to label."""

    name: str
    windows: Sequence[Window]
    windows_hash: str
    """Hash of everything the labels depend on: the window ids, and the transcripts if they are the label text."""

    @property
    def duration(self) -> float:
        """Seconds of audio."""
        return sum(window.duration for window in self.windows)


def plan_shards(settings: LabelSettings, vocabulary: Vocabulary) -> tuple[list[ShardSpec], list[Skipped]]:
    """All shards in order, and what is left out; the same settings and corpora always give the same plan.

    A corpus added at the end leaves the shards before it unchanged. Raises `CorpusError` when no utterance is left,
    `SettingsError` when two corpora have the same name.
    """
    skipped: list[Skipped] = []
    shards: list[ShardSpec] = []
    packed_before: set[tuple[Utterance, ...]] = set()
    corpus_names: set[str] = set()
    for source in settings.manifest:
        # 1. Read the corpus, without what the teacher cannot label.
        corpus = read_corpus(source, layout=settings.layout, language=settings.language)
        usable, unusable = _split_usable(source, corpus.utterances, settings, vocabulary)
        # 2. Give it a name that no corpus before it has: utterances are identified by (corpus, id).
        name = _unique_corpus_name(corpus_names, corpus.name, source)
        corpus_names.add(name)
        if name != corpus.name:
            usable = tuple(replace(utterance, corpus=name) for utterance in usable)
        # 3. Cut recordings that are longer than a window.
        utterances, notes = split_long(usable, settings.max_packed_seconds)
        skipped += [*corpus.skipped, *unusable, *notes]
        # 4. Pack utterances into windows, once per variant, and windows into shards.
        for variant in range(settings.packing_variants):
            packed = pack(
                utterances,
                max_seconds=settings.max_packed_seconds,
                min_seconds=settings.min_packed_seconds,
                packing_variant=variant,
                seed=settings.seed,
            )
            windows = [window for window in packed if window.utterances not in packed_before]  # a repeat adds nothing
            packed_before.update(window.utterances for window in windows)
            for start in range(0, len(windows), settings.shard_windows):
                shard_windows = windows[start : start + settings.shard_windows]
                shards.append(ShardSpec(f"{len(shards):05d}", shard_windows, _hash_windows(shard_windows, settings)))
    if not shards:
        raise CorpusError(f"expected utterances to label, none is left: {skipped[0].source}: {skipped[0].reason}, ...")
    return shards, skipped


def _hash_windows(windows: Iterable[Window], settings: LabelSettings) -> str:
    """SHA-256 of everything the labels depend on: the audio, and the transcripts if they are the label text."""
    lines = []
    for window in windows:
        texts = [utterance.text for utterance in window.utterances] if settings.label_source == "reference" else []
        lines += [window.id, *map(str, texts)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _split_usable(
    source: str, utterances: Iterable[Utterance], settings: LabelSettings, vocabulary: Vocabulary
) -> tuple[tuple[Utterance, ...], list[Skipped]]:
    """Utterances the teacher can label, and the others with the reason."""
    usable: list[Utterance] = []
    unusable: list[Skipped] = []
    for utterance in utterances:
        if settings.label_source == "reference" and not (
            utterance.text and utterance.audio.duration <= settings.max_packed_seconds
        ):
            reason = f"no transcript, or longer than {settings.max_packed_seconds:g} s"
        elif not _is_known_language(utterance.language, vocabulary):
            reason = f"language {utterance.language} is not supported by the teacher"
        else:
            usable.append(utterance)
            continue
        unusable.append(Skipped(f"{source}: {utterance.id}", reason))
    return tuple(usable), unusable


def _is_known_language(language: str | None, vocabulary: Vocabulary) -> bool:
    try:
        return language is None or language_code(language) in (vocabulary.languages or ("en",))
    except SettingsError:
        return False


def _unique_corpus_name(used_names: set[str], name: str, source: str) -> str:
    """The corpus's name, prefixed by its parent folders until it differs from all names used before."""
    folders = [part for part in source.replace("\\", "/").split("/")[:-1] if part not in ("", ".", "..")]
    if folders and folders[-1] == name:
        folders.pop()
    for folder in reversed(folders):
        if name not in used_names:
            return name
        name = f"{folder}-{name}"
    if name in used_names:
        raise SettingsError(
            f"two corpora are called {name}, the second is {source}: name each once, or rename a folder"
        )
    return name
