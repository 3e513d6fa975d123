"""How many words does merging overlapping chunks duplicate or lose, by word timestamps and by token overlap?

Hypothesis: a merge that uses word timestamps and cuts only where both chunks agree makes at least five times fewer
errors at merge points than the usual merge by longest common token sequence.
Method: every chunk is decoded once (greedy, no timestamps, batches of 8) with word timestamps; both merges get the same
chunks. Errors are counted against the reference within c/6 of the middle of each overlap, which is the whole overlap:
insertions that repeat their neighbours, and reference words that a chunk recognised and the merge dropped. The same
errors are counted around the midpoints between merge points. Where chunks disagree, a window centred on the merge point
is decoded as well. With --centred every merge point gets such a window, as a second reference far from window edges.
Limit: words that no chunk recognised are lost to any merge; all deletions are listed too, at and between merge points.

    python bench/seams.py --speech ../shared/speech

Decoded chunks are cached in build/seams; rows of earlier runs stay in the result file.
"""

import json
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from chunk_merge_errors import (
    LocatedError,
    MergeErrors,
    Reference,
    count_errors_against_windows,
    count_errors_near,
    find_recognized_words,
    locate_errors_in_recording,
    midpoints_between,
)
from harness import argument_parser, read_clips, set_threads, write_result
from jaxtyping import Float32
from token_overlap_merge import merge_tokens

from whisperstill.audio.audio_files import load_audio
from whisperstill.audio.mel import pad_or_trim
from whisperstill.decode.longform.chunk_merge import ChunkMerger, find_merge_point
from whisperstill.decode.output.transcript import Word
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.decode.word_timestamps.align import align_words
from whisperstill.evaluate.metrics import Scoring, score
from whisperstill.model.checkpoints import load_checkpoint
from whisperstill.text.markdown import markdown_table
from whisperstill.units import SAMPLE_RATE

DATASETS = ("longform-librispeech", "longform-ljspeech")
BATCH_SIZE = 8
METHODS = ("words", "diagonal")


@dataclass(frozen=True)
class Chunk:
    """Transcript of a part of a recording."""

    begin: float
    end: float
    tokens: list[int]
    words: list[Word]

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Chunk":
        """Read from the cache."""
        return cls(fields["begin"], fields["end"], fields["tokens"], [Word(*word) for word in fields["words"]])

    def to_json(self) -> dict[str, Any]:
        """Write for the cache."""
        words = [[word.start, word.end, word.word, word.probability] for word in self.words]
        return {"begin": self.begin, "end": self.end, "tokens": self.tokens, "words": words}


@dataclass
class Recording:
    """A long recording with its reference."""

    name: str
    path: Path
    text: str
    reference: Reference
    seconds: float

    @cached_property
    def audio(self) -> Float32[np.ndarray, "samples"]:
        """All samples, mono."""
        return load_audio(str(self.path))


class ChunkDecoder:
    """Decodes chunks of recordings, with a cache on disk; the checkpoint is loaded on the first miss."""

    def __init__(self, model: str, cache: Path) -> None:
        self.model, self.cache = model, cache

    @cached_property
    def whisper(self) -> WhisperModel:
        """In float32, so that the text does not depend on the machine."""
        return WhisperModel(load_checkpoint(self.model), dtype=torch.float32)

    def decode(self, recording: Recording, ranges: Sequence[tuple[float, float]], name: str) -> list[Chunk]:
        """Chunks of these (start, end) seconds; `name` is part of the file name in the cache."""
        path = self.cache / f"{Path(self.model).name}-{name}-{recording.name}.json"
        known = {}
        if path.exists():
            known = {(chunk["begin"], chunk["end"]): Chunk.from_json(chunk) for chunk in json.loads(path.read_text())}
        missing = [time_range for time_range in ranges if time_range not in known]
        for first in range(0, len(missing), BATCH_SIZE):
            known |= {
                (chunk.begin, chunk.end): chunk
                for chunk in self._decode(recording, missing[first : first + BATCH_SIZE])
            }
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps([chunk.to_json() for chunk in known.values()]))
            partial.replace(path)
        return [known[time_range] for time_range in ranges]

    def _decode(self, recording: Recording, ranges: Sequence[tuple[float, float]]) -> list[Chunk]:
        pieces = [recording.audio[round(begin * SAMPLE_RATE) : round(end * SAMPLE_RATE)] for begin, end in ranges]
        waveforms = torch.from_numpy(np.stack([pad_or_trim(piece) for piece in pieces]))
        states = self.whisper.encode(waveforms)
        transcripts = self.whisper.decode(states, ["en"] * len(ranges))
        seconds = [len(piece) / SAMPLE_RATE for piece in pieces]
        words = align_words(self.whisper, states, transcripts, seconds, waveforms=waveforms)
        return [
            Chunk(
                begin,
                end,
                list(transcript.result.tokens),
                [Word(begin + word.start, begin + word.end, word.word, word.probability) for word in chunk_words],
            )
            for (begin, end), transcript, chunk_words in zip(ranges, transcripts, words, strict=True)
        ]

    def token_words(self, chunk: Chunk) -> list[Word]:
        """The word of each token."""
        groups = self.whisper.tokenizer.split_to_word_tokens(chunk.tokens, "en")
        words: list[Word] = []
        for group, word in zip(groups, chunk.words, strict=True):
            words += [word] * (group.token_end - group.token_start)
        return words


def chunk_ranges(seconds: float, length: float) -> list[tuple[float, float]]:
    """(start, end) of chunks of this length; neighbours overlap by a third of it."""
    begins = [0.0]
    while begins[-1] + length < seconds:
        begins.append(begins[-1] + 2 * length / 3)
    return [(begin, min(seconds, begin + length)) for begin in begins]


def merge_by_words(
    decoder: ChunkDecoder, recording: Recording, chunks: Sequence[Chunk], length: float
) -> tuple[list[Word], int]:
    """Our merge, and the number of merge points that needed a centred window."""
    merger, num_redecoded = ChunkMerger("en"), 0
    words: list[Word] = []
    previous: Chunk | None = None
    for chunk in chunks:
        if previous is not None and not merger.can_merge(chunk.words, chunk.begin):
            middle = (chunk.begin + previous.end) / 2
            time_range = (max(0.0, middle - length / 2), min(recording.seconds, middle + length / 2))
            centre = decoder.decode(recording, [time_range], f"{length:g}-centred")[0]
            after = find_merge_point(centre.words, chunk.words, chunk.begin, centre.end, "en")
            if after and merger.can_merge(centre.words, centre.begin):
                words += merger.add_chunk(centre.words, centre.begin, centre.end)
            num_redecoded += 1
        words += merger.add_chunk(chunk.words, chunk.begin, chunk.end)
        previous = chunk
    return words + merger.finish(), num_redecoded


def merge_by_tokens(decoder: ChunkDecoder, chunks: Sequence[Chunk]) -> list[Word]:
    """The baseline: merge tokens, then group them into words with their original times."""
    owners = [decoder.token_words(chunk) for chunk in chunks]
    positions = merge_tokens([chunk.tokens for chunk in chunks])
    tokens = [chunks[chunk].tokens[position] for chunk, position in positions]
    words = []
    for group in decoder.whisper.tokenizer.split_to_word_tokens(tokens, "en"):
        chunk, position = positions[group.token_start]
        owner = owners[chunk][position]
        words.append(Word(owner.start, owner.end, group.text, owner.probability))
    return words


@dataclass
class MergeTotals:
    """Errors of one merge over all recordings."""

    texts: list[str] = field(default_factory=list)
    at_merge_points: MergeErrors = field(default_factory=MergeErrors)
    background: MergeErrors = field(default_factory=MergeErrors)
    windows: MergeErrors = field(default_factory=MergeErrors)

    def row(self, references: list[str]) -> dict[str, Any]:
        """Row of the result file."""
        row: dict[str, Any] = {"wer": round(score(references, self.texts, Scoring("english")).wer, 2)}
        for name, errors in (
            ("at_merge_points", self.at_merge_points),
            ("between", self.background),
            ("windows", self.windows),
        ):
            if errors.merge_points:
                row[name] = {
                    "places": errors.merge_points,
                    "duplicated": errors.duplicated,
                    "inserted": errors.inserted,
                    "deleted": errors.deleted,
                    "avoidable": errors.deleted_by_merge,
                    "per_100": round(errors.error_rate, 1),
                    "merge_per_100": round(errors.merge_error_rate, 1),
                }
        row["excess_per_100"] = round(self.at_merge_points.error_rate - self.background.error_rate, 1)
        return row


def measure(
    decoder: ChunkDecoder, recordings: Sequence[Recording], length: float, centred: bool, show: bool
) -> dict[str, Any]:
    """Both merges on all recordings with chunks of one length."""
    totals = {method: MergeTotals() for method in METHODS}
    num_redecoded = 0
    for recording in recordings:
        ranges = chunk_ranges(recording.seconds, length)
        chunks = decoder.decode(recording, ranges, f"{length:g}")
        merge_points = [(after[0] + before[1]) / 2 for before, after in pairwise(ranges)]
        our_words, recording_redecoded = merge_by_words(decoder, recording, chunks, length)
        num_redecoded += recording_redecoded
        recognised = find_recognized_words(
            [(chunk.begin, chunk.end, chunk.words) for chunk in chunks], recording.reference, "en"
        )
        centres = []
        if centred:
            centred_ranges = [
                (max(0.0, merge_point - length / 2), min(recording.seconds, merge_point + length / 2))
                for merge_point in merge_points
            ]
            centres = decoder.decode(recording, centred_ranges, f"{length:g}-centred")
        for method, words in (("words", our_words), ("diagonal", merge_by_tokens(decoder, chunks))):
            total = totals[method]
            total.texts.append("".join(word.word for word in words))
            errors = locate_errors_in_recording(words, recording.reference, "en")
            total.at_merge_points += count_errors_near(errors, merge_points, length / 6, recognised)
            total.background += count_errors_near(errors, midpoints_between(merge_points), length / 6, recognised)
            if centres:
                windows = [(merge_point, chunk.words) for merge_point, chunk in zip(merge_points, centres, strict=True)]
                total.windows += count_errors_against_windows(words, windows, length / 6, "en")
            if show:
                display(f"{recording.name} {method}", words, errors, recognised, chunks, merge_points)
    references = [recording.text for recording in recordings]
    rows = {method: total.row(references) for method, total in totals.items()}
    our_rate, baseline_rate = (rows[method]["at_merge_points"]["merge_per_100"] for method in METHODS)
    return {
        "model": decoder.model,
        "chunk_s": length,
        "recordings": len(recordings),
        "hours": round(sum(recording.seconds for recording in recordings) / 3600, 3),
        "decoded_again": num_redecoded,
        **rows,
        "ratio": round(baseline_rate / our_rate, 1) if our_rate else None,
    }


def display(
    title: str,
    words: Sequence[Word],
    errors: Sequence[LocatedError],
    recognised: Set[int],
    chunks: Sequence[Chunk],
    merge_points: Sequence[float],
) -> None:
    """Print every error of a merge near a merge point, with the words of the two chunks."""
    radius = (chunks[0].end - chunks[0].begin) / 6
    for number, merge_point in enumerate(merge_points):
        merge_errors = [
            error
            for error in errors
            if abs(error.time - merge_point) <= radius
            and (error.kind == "duplicated" or (error.kind == "deleted" and error.word_index in recognised))
        ]
        if merge_errors:
            print(f"\n{title} {merge_point:.1f}", [(e.kind, e.word, round(e.time, 1)) for e in merge_errors])
            for name, side in (("left", chunks[number].words), ("right", chunks[number + 1].words), ("merged", words)):
                near = [word for word in side if abs((word.start + word.end) / 2 - merge_point) <= radius + 1]
                print(f"  {name:6}", " ".join(f"{word.word.strip()}@{word.start:.1f}" for word in near))


def render(result: dict[str, Any]) -> str:
    """The table of docs/results/seams.md."""
    merge_columns = ("duplicated words", "dropped words", "duplicated + dropped per 100 merge points")
    deletion_columns = ("deleted words at merge points", "deleted words between")
    columns = ("model", "c, s", "merge", "WER %", *merge_columns, *deletion_columns)
    rows = []
    for row in result["rows"]:
        for method in METHODS:
            errors, background = row[method]["at_merge_points"], row[method]["between"]
            cells = [f"{row[method]['wer']:.2f}", str(errors["duplicated"]), str(errors["avoidable"])]
            cells += [f"{errors['merge_per_100']:.1f}", str(errors["deleted"]), str(background["deleted"])]
            rows.append([row["model"], f"{row['chunk_s']:g}", method, *cells])
    return markdown_table(columns, rows, text_columns=(0, 2))


def main() -> None:
    parser = argument_parser(__doc__, "seams.json")
    parser.add_argument("--speech", type=Path, required=True, help="directory of the datasets")
    parser.add_argument("--models", nargs="+", default=["tiny.en", "base"], help="names, or directories of students")
    parser.add_argument("--chunks", nargs="+", type=float, default=[30.0, 15.0], help="chunk lengths in seconds")
    parser.add_argument("--only", nargs="*", default=[], help="ids of recordings; default: all")
    parser.add_argument("--centred", action="store_true", help="decode a centred window for every merge point")
    parser.add_argument("--show", action="store_true", help="print every error near a merge point")
    parser.add_argument("--cache", type=Path, default=Path("build/seams"))
    options = parser.parse_args()
    set_threads(options.threads)
    recordings = []
    for clip in read_clips(options.speech, DATASETS, options.only):
        spans = [(part["text"], float(part["start"]), float(part["end"])) for part in clip.entry["segments"]]
        seconds = len(load_audio(clip.path)) / SAMPLE_RATE
        reference = Reference.from_utterances(spans, "en")
        recordings.append(Recording(clip.id, Path(clip.path), clip.text, reference, seconds))
    rows: dict[tuple[str, float], dict[str, Any]] = {}
    if options.output.exists():
        rows = {(row["model"], row["chunk_s"]): row for row in json.loads(options.output.read_text())["rows"]}
    result: dict[str, Any] = {"rows": []}
    for model in options.models:
        decoder = ChunkDecoder(model, options.cache)
        for length in options.chunks:
            rows[model, length] = measure(decoder, recordings, length, options.centred, options.show)
            print(json.dumps(rows[model, length]), flush=True)
            result = {"rows": list(rows.values())}
            write_result(options.output, "words duplicated and lost where chunks are merged", result)
    print(render(result))


if __name__ == "__main__":
    main()
