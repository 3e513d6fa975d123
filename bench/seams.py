"""Words doubled and lost where chunks of long recordings are joined: by words and times, and by tokens on diagonals.

Hypothesis: a merge that knows when words were said, and cuts only where both chunks agree, makes at least five times
fewer errors at seams than the usual one.
Method: every chunk is decoded once (greedy, no timestamps, batches of 8) and its words are timed; both merges get
the same chunks. Against the transcript, within c/6 of the overlaps' middles, which is all of an overlap: insertions
that repeat their neighbours, and words of the transcript that one of the chunks had heard and that were thrown away.
The same is counted around the middles between seams. Where chunks do not agree a window centred on the seam is
decoded as well. With --centred a window is decoded for every seam, as a second reference that no edge comes near.
Limit: what no chunk heard cannot be merged; all that is lost stands beside it, at seams and between them.

    python bench/seams.py --speech ../shared/speech

Chunks that are decoded are kept in build/seams; rows of other runs are kept in the results.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diagonal_merge import merge_tokens

from whisperstill.audio.audio_files import load_audio
from whisperstill.audio.mel import pad_or_trim
from whisperstill.decode.longform.chunk_merge import ChunkMerger, find_merge_point
from whisperstill.decode.output.transcript import Word
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.decode.word_timestamps.align import align_words
from whisperstill.evaluate.score import score
from whisperstill.evaluate.seams import (
    LocatedError,
    MergeErrors,
    Reference,
    count_errors_against_windows,
    count_errors_near,
    find_recognized_words,
    locate_errors_in_recording,
    midpoints_between,
)
from whisperstill.model.checkpoints import load_checkpoint
from whisperstill.units import SAMPLE_RATE

SETS = ("longform-librispeech", "longform-ljspeech")
BATCH = 8
METHODS = ("words", "diagonal")


@dataclass(frozen=True)
class Chunk:
    """What was heard in a stretch of a recording."""

    begin: float
    end: float
    tokens: list[int]
    words: list[Word]

    @classmethod
    def read(cls, fields: dict[str, Any]) -> "Chunk":
        """From the cache."""
        return cls(fields["begin"], fields["end"], fields["tokens"], [Word(*word) for word in fields["words"]])

    def written(self) -> dict[str, Any]:
        """For the cache."""
        words = [[word.start, word.end, word.word, word.probability] for word in self.words]
        return {"begin": self.begin, "end": self.end, "tokens": self.tokens, "words": words}


@dataclass
class Recording:
    """A long file and its transcript."""

    name: str
    path: Path
    text: str
    reference: Reference
    seconds: float

    @cached_property
    def audio(self) -> np.ndarray:
        """The whole of it, mono."""
        return load_audio(str(self.path))


class Ear:
    """A checkpoint, loaded when something is not in the cache."""

    def __init__(self, model: str, cache: Path) -> None:
        self.model, self.cache = model, cache

    @cached_property
    def recogniser(self) -> WhisperModel:
        """In float32: what is heard does not depend on the machine."""
        return WhisperModel(load_checkpoint(self.model), dtype=torch.float32)

    def hear(self, recording: Recording, stretches: Sequence[tuple[float, float]], name: str) -> list[Chunk]:
        """The chunks of these seconds; `name` is that of their file in the cache."""
        path = self.cache / f"{Path(self.model).name}-{name}-{recording.name}.json"
        known = {}
        if path.exists():
            known = {(chunk["begin"], chunk["end"]): Chunk.read(chunk) for chunk in json.loads(path.read_text())}
        missing = [stretch for stretch in stretches if stretch not in known]
        for first in range(0, len(missing), BATCH):
            known |= {
                (chunk.begin, chunk.end): chunk for chunk in self._decode(recording, missing[first : first + BATCH])
            }
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps([chunk.written() for chunk in known.values()]))
            partial.replace(path)
        return [known[stretch] for stretch in stretches]

    def _decode(self, recording: Recording, stretches: Sequence[tuple[float, float]]) -> list[Chunk]:
        pieces = [recording.audio[round(begin * SAMPLE_RATE) : round(end * SAMPLE_RATE)] for begin, end in stretches]
        waveforms = torch.from_numpy(np.stack([pad_or_trim(piece) for piece in pieces]))
        states = self.recogniser.encode(waveforms)
        heard = self.recogniser.decode(states, ["en"] * len(stretches))
        seconds = [len(piece) / SAMPLE_RATE for piece in pieces]
        words = align_words(self.recogniser, states, heard, seconds, waveforms=waveforms)
        return [
            Chunk(
                begin,
                end,
                list(one.result.tokens),
                [Word(begin + word.start, begin + word.end, word.word, word.probability) for word in found],
            )
            for (begin, end), one, found in zip(stretches, heard, words, strict=True)
        ]

    def token_words(self, chunk: Chunk) -> list[Word]:
        """For each token the word it belongs to."""
        groups = self.recogniser.tokenizer.split_to_word_tokens(chunk.tokens, "en")
        words: list[Word] = []
        for group, word in zip(groups, chunk.words, strict=True):
            words += [word] * (group.token_end - group.token_start)
        return words


def stretches_of(seconds: float, length: float) -> list[tuple[float, float]]:
    """Begin and end of chunks of this length; neighbours share a third of it."""
    begins = [0.0]
    while begins[-1] + length < seconds:
        begins.append(begins[-1] + 2 * length / 3)
    return [(begin, min(seconds, begin + length)) for begin in begins]


def by_words(ear: Ear, recording: Recording, chunks: Sequence[Chunk], length: float) -> tuple[list[Word], int]:
    """Our merge, and how many seams needed a window of their own."""
    stitching, words, again = ChunkMerger("en"), [], 0
    before: Chunk | None = None
    for chunk in chunks:
        if before is not None and not stitching.can_merge(chunk.words, chunk.begin):
            middle = (chunk.begin + before.end) / 2
            stretch = (max(0.0, middle - length / 2), min(recording.seconds, middle + length / 2))
            centre = ear.hear(recording, [stretch], f"{length:g}-centred")[0]
            after = find_merge_point(centre.words, chunk.words, chunk.begin, centre.end, "en")
            if after and stitching.can_merge(centre.words, centre.begin):
                words += stitching.add_chunk(centre.words, centre.begin, centre.end)
            again += 1
        words += stitching.add_chunk(chunk.words, chunk.begin, chunk.end)
        before = chunk
    return words + stitching.finish(), again


def by_diagonal(ear: Ear, chunks: Sequence[Chunk]) -> list[Word]:
    """The baseline: tokens are merged, then read as words with the times they had."""
    owners = [ear.token_words(chunk) for chunk in chunks]
    places = merge_tokens([chunk.tokens for chunk in chunks])
    tokens = [chunks[chunk].tokens[place] for chunk, place in places]
    words = []
    for group in ear.recogniser.tokenizer.split_to_word_tokens(tokens, "en"):
        chunk, place = places[group.token_start]
        owner = owners[chunk][place]
        words.append(Word(owner.start, owner.end, group.text, owner.probability))
    return words


@dataclass
class Tally:
    """What one method did in all recordings."""

    texts: list[str] = field(default_factory=list)
    at_seams: MergeErrors = field(default_factory=MergeErrors)
    background: MergeErrors = field(default_factory=MergeErrors)
    windows: MergeErrors = field(default_factory=MergeErrors)

    def row(self, references: list[str]) -> dict[str, Any]:
        """For the results."""
        found: dict[str, Any] = {"wer": round(score(references, self.texts, normalizer="english").wer, 2)}
        for name, errors in (("at_seams", self.at_seams), ("between", self.background), ("windows", self.windows)):
            if errors.merge_points:
                found[name] = {
                    "places": errors.merge_points,
                    "duplicated": errors.duplicated,
                    "inserted": errors.inserted,
                    "deleted": errors.deleted,
                    "avoidable": errors.deleted_by_merge,
                    "per_100": round(errors.error_rate, 1),
                    "merge_per_100": round(errors.merge_error_rate, 1),
                }
        found["excess_per_100"] = round(self.at_seams.error_rate - self.background.error_rate, 1)
        return found


def measure(ear: Ear, recordings: Sequence[Recording], length: float, centred: bool, show: bool) -> dict[str, Any]:
    """Both methods on all recordings with chunks of one length."""
    tallies = {method: Tally() for method in METHODS}
    again = 0
    for recording in recordings:
        stretches = stretches_of(recording.seconds, length)
        chunks = ear.hear(recording, stretches, f"{length:g}")
        seams = [(after[0] + before[1]) / 2 for before, after in pairwise(stretches)]
        ours, redone = by_words(ear, recording, chunks, length)
        again += redone
        heard = find_recognized_words(
            [(chunk.begin, chunk.end, chunk.words) for chunk in chunks], recording.reference, "en"
        )
        centres = []
        if centred:
            around = [(max(0.0, at - length / 2), min(recording.seconds, at + length / 2)) for at in seams]
            centres = ear.hear(recording, around, f"{length:g}-centred")
        for method, words in (("words", ours), ("diagonal", by_diagonal(ear, chunks))):
            tally = tallies[method]
            tally.texts.append("".join(word.word for word in words))
            found = locate_errors_in_recording(words, recording.reference, "en")
            tally.at_seams += count_errors_near(found, seams, length / 6, heard)
            tally.background += count_errors_near(found, midpoints_between(seams), length / 6, heard)
            if centres:
                windows = [(at, chunk.words) for at, chunk in zip(seams, centres, strict=True)]
                tally.windows += count_errors_against_windows(words, windows, length / 6, "en")
            if show:
                display(recording, method, words, found, heard, chunks, seams, length / 6)
    references = [recording.text for recording in recordings]
    rows = {method: tally.row(references) for method, tally in tallies.items()}
    mine, theirs = (rows[method]["at_seams"]["merge_per_100"] for method in METHODS)
    return {
        "model": ear.model,
        "chunk_s": length,
        "recordings": len(recordings),
        "hours": round(sum(recording.seconds for recording in recordings) / 3600, 3),
        "decoded_again": again,
        **rows,
        "ratio": round(theirs / mine, 1) if mine else None,
    }


def display(
    recording: Recording,
    method: str,
    words: Sequence[Word],
    found: Sequence[LocatedError],
    heard: set[int],
    chunks: Sequence[Chunk],
    seams: Sequence[float],
    radius: float,
) -> None:
    """Every error of the merge at a seam, with what the two chunks heard, to be looked at."""
    for number, seam in enumerate(seams):
        errors = [
            one
            for one in found
            if abs(one.time - seam) <= radius
            and (one.kind == "duplicated" or (one.kind == "deleted" and one.word_index in heard))
        ]
        if errors:
            print(
                f"\n{recording.name} {method} {seam:.1f}", [(one.kind, one.word, round(one.time, 1)) for one in errors]
            )
            for name, side in (("left", chunks[number].words), ("right", chunks[number + 1].words), ("merged", words)):
                near = [word for word in side if abs((word.start + word.end) / 2 - seam) <= radius + 1]
                print(f"  {name:6}", " ".join(f"{word.word.strip()}@{word.start:.1f}" for word in near))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["tiny.en", "base"], help="names, or directories of students")
    parser.add_argument("--chunks", nargs="+", type=float, default=[30.0, 15.0], help="seconds")
    parser.add_argument("--only", nargs="*", default=[], help="ids of recordings")
    parser.add_argument("--centred", action="store_true", help="decode a window for every seam, too")
    parser.add_argument("--show", action="store_true", help="print every error at a seam")
    parser.add_argument("--cache", type=Path, default=Path("build/seams"))
    parser.add_argument("--output", type=Path, default=Path("bench/results/seams.json"))
    options = parser.parse_args()
    recordings = []
    for folder in SETS:
        for line in (options.speech / folder / "manifest.jsonl").read_text().splitlines():
            entry = json.loads(line)
            if not options.only or entry["id"] in options.only:
                path = options.speech / folder / entry["audio"]
                spoken = [(part["text"], float(part["start"]), float(part["end"])) for part in entry["segments"]]
                seconds = len(load_audio(str(path))) / SAMPLE_RATE
                recordings.append(
                    Recording(entry["id"], path, entry["text"], Reference.from_utterances(spoken, "en"), seconds)
                )
    rows: dict[tuple[str, float], dict[str, Any]] = {}
    if options.output.exists():
        rows = {(row["model"], row["chunk_s"]): row for row in json.loads(options.output.read_text())["rows"]}
    for model in options.models:
        ear = Ear(model, options.cache)
        for length in options.chunks:
            rows[model, length] = measure(ear, recordings, length, options.centred, options.show)
            print(json.dumps(rows[model, length]), flush=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    result = {"question": "what is doubled and lost at seams", "rows": list(rows.values())}
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print("| model | chunk s | merge | WER % | doubled | thrown away | per 100 seams | all lost at seams | between |")
    print("| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for row in rows.values():
        for method in METHODS:
            one = row[method]
            at, background = one["at_seams"], one["between"]
            print(
                f"| {row['model']} | {row['chunk_s']:g} | {method} | {one['wer']:.2f} | {at['duplicated']} | "
                f"{at['avoidable']} | {at['merge_per_100']:.1f} | {at['deleted']} | {background['deleted']} |"
            )


if __name__ == "__main__":
    main()
