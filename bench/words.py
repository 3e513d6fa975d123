"""How accurate are word timestamps, compared with faster-whisper's?

Hypothesis: with the same weights and cross-attention both are equally accurate; snapping words to the pauses of the
waveform, and alignment heads selected on pauses, make ours more accurate.
Method: recordings that consist of known utterances, split at silences into windows of at most 30 s; both libraries
decode the same windows, greedily, in float32. Words are matched to the reference by edit distance. Where all systems
recognised an utterance's first word, its start is compared with the utterance's; likewise the end of the last word.
There are two ground truths: the manifest, which in LibriSpeech has silence at both ends, and the manifest trimmed to
the loud part (10 dB above the noise floor, and at most 35 dB below the loud frames). The trimmed truth is based on
energy, as our snapping is, and favours it; the manifest of LJSpeech, whose clips are cut tightly, does not. Alignment
heads are selected on twelve utterances of other speakers.
Limit: half an encoder position, 0.01 s. With --seconds 200 it takes about ten minutes on one thread.

    python bench/words.py --speech ../shared/speech --student runs/mini-librispeech/student
"""

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import argument_parser, set_threads, write_result
from jaxtyping import Bool, Float32
from parity import load_ctranslate2

from whisperstill.audio.audio_files import load_audio
from whisperstill.audio.mel import pad_or_trim
from whisperstill.audio.sound_activity import cut_file
from whisperstill.corpus import load_utterance_waveform, read_corpus
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.decode.word_timestamps.align import align_words
from whisperstill.decode.word_timestamps.alignment_heads import with_alignment_heads
from whisperstill.model.checkpoints import Checkpoint, load_checkpoint
from whisperstill.model.generation_config import remap_alignment_heads
from whisperstill.text.edit_distance import align
from whisperstill.text.markdown import markdown_table
from whisperstill.text.normalizers import normalize_word
from whisperstill.units import HOP_SAMPLES, SAMPLE_RATE, WINDOW_SAMPLES, WINDOW_SECONDS

RECORDINGS = (
    ("longform-librispeech", "32-21631"),
    ("longform-librispeech", "669-129074"),
    ("longform-ljspeech", "LJ001"),
)
HEADS_DATASET = "librispeech-mini-train"
"""Dataset on which alignment heads are selected."""
TimedWords = list[tuple[float, float, str]]
"""(start, end, text) of the words of a recording."""


@dataclass(frozen=True)
class Boundary:
    """Start or end of an utterance, and the word there."""

    word: int
    """Index of the reference word."""
    edge: str
    """`start` or `end`."""
    manifest: float
    """Seconds in the manifest."""
    loud: float
    """Seconds of the first or last loud frame."""


@dataclass(frozen=True)
class Recording:
    """Part of a recording with its ground truth."""

    kind: str
    reference: list[str]
    boundaries: list[Boundary]
    windows: list[tuple[float, Float32[np.ndarray, "samples"]]]
    """(start, waveform) of the windows."""


def loud_frames(waveform: Float32[np.ndarray, "samples"]) -> Bool[np.ndarray, "frames"]:
    """Mask of the loud 10 ms frames."""
    frames = waveform[: len(waveform) // HOP_SAMPLES * HOP_SAMPLES].reshape(-1, HOP_SAMPLES)
    decibels = 10 * np.log10(np.square(frames, dtype=np.float64).mean(1) + 1e-10)
    smooth = np.convolve(np.pad(decibels, 1, mode="edge"), np.full(3, 1 / 3), mode="valid")
    floor, loud = np.percentile(smooth, [10, 95])
    mask: np.ndarray = smooth > max(floor + 10, loud - 35)
    return mask


def load_recordings(speech: Path, seconds: float) -> Iterator[Recording]:
    """The first `seconds` of each recording, complete utterances only."""
    for kind, name in RECORDINGS:
        lines = (speech / kind / "manifest.jsonl").read_text().splitlines()
        entry = next(entry for entry in map(json.loads, lines) if entry["id"] == name)
        path = speech / kind / entry["audio"]
        segments = [segment for segment in entry["segments"] if segment["end"] <= seconds]
        loud = loud_frames(load_audio(path))
        reference: list[str] = []
        boundaries = []
        for segment in segments:
            words = [word for text in segment["text"].replace("-", " ").split() if (word := normalize_word(text))]
            loud_indices = np.flatnonzero(loud[int(segment["start"] * 100) : int(segment["end"] * 100)])
            boundaries.append(
                Boundary(len(reference), "start", segment["start"], segment["start"] + loud_indices[0] / 100)
            )
            reference += words
            boundaries.append(
                Boundary(len(reference) - 1, "end", segment["end"], segment["start"] + (loud_indices[-1] + 1) / 100)
            )
        windows = [
            (start, load_audio(path, start, length)[:WINDOW_SAMPLES])
            for start, length in cut_file(path, WINDOW_SECONDS, 0.0, segments[-1]["end"])
        ]
        yield Recording(kind, reference, boundaries, windows)


def boundary_errors(recording: Recording, timed_words: TimedWords) -> dict[int, tuple[float, float]]:
    """Boundary index -> error in seconds against the manifest and the loud edge, where the word was recognised."""
    hypothesis, word_indices = [], []
    for index, (_, _, text) in enumerate(timed_words):
        for part in text.replace("-", " ").split():
            hypothesis.append(normalize_word(part))
            word_indices.append(index)
    matched = {
        reference_index: word_indices[hypothesis_index]
        for reference_index, hypothesis_index in align(recording.reference, hypothesis)
        if reference_index is not None
        and hypothesis_index is not None
        and recording.reference[reference_index] == hypothesis[hypothesis_index]
    }
    errors = {}
    for number, boundary in enumerate(recording.boundaries):
        if boundary.word in matched:
            start, end, _ = timed_words[matched[boundary.word]]
            time = start if boundary.edge == "start" else end
            errors[number] = (time - boundary.manifest, time - boundary.loud)
    return errors


def our_words(
    checkpoint: Checkpoint, selected: Checkpoint, recordings: Sequence[Recording]
) -> dict[str, list[TimedWords]]:
    """Words with default and selected heads, without and with snapping to pauses; one transcript for all four."""
    model = WhisperModel(checkpoint, dtype=torch.float32)
    heads = {"settings' heads": checkpoint.generation_config, "selected heads": selected.generation_config}
    words: dict[str, list[TimedWords]] = {}
    for recording in recordings:
        starts = [start for start, _ in recording.windows]
        durations = [len(wave) / SAMPLE_RATE for _, wave in recording.windows]
        waves = torch.from_numpy(np.stack([pad_or_trim(wave) for _, wave in recording.windows]))
        states = model.encode(waves)
        transcripts = model.decode(states, ["en"] * len(states))
        for name, generation in heads.items():
            model.generation_config = generation
            for suffix, waveforms in (("", None), (", pauses", waves)):
                aligned = align_words(model, states, transcripts, durations, waveforms=waveforms)
                words.setdefault(f"ours, {name}{suffix}", []).append(
                    [
                        (start + word.start, start + word.end, word.word)
                        for start, window_words in zip(starts, aligned, strict=True)
                        for word in window_words
                    ]
                )
    return words


def faster_whisper_words(name: str, recordings: Sequence[Recording], threads: int) -> list[TimedWords]:
    """Words of faster-whisper on the same windows."""
    from faster_whisper import WhisperModel as FasterWhisperModel  # type: ignore[import-untyped]

    with tempfile.TemporaryDirectory() as folder:
        load_ctranslate2(name, Path(folder) / "model", threads)
        model = FasterWhisperModel(
            str(Path(folder) / "model"), device="cpu", compute_type="float32", cpu_threads=threads, num_workers=1
        )
        return [
            [
                (start + word.start, start + word.end, word.word)
                for start, wave in recording.windows
                for segment in model.transcribe(
                    wave,
                    language="en",
                    beam_size=1,
                    temperature=0.0,
                    word_timestamps=True,
                    condition_on_previous_text=False,
                )[0]
                for word in segment.words or ()
            ]
            for recording in recordings
        ]


def summarise(recordings: Sequence[Recording], words: dict[str, list[TimedWords]]) -> dict[str, Any]:
    """Median and 95th percentile of absolute errors, and the median error, where all systems recognised the word."""
    result: dict[str, Any] = {}
    for kind in dict.fromkeys(recording.kind for recording in recordings):
        indices = [index for index, recording in enumerate(recordings) if recording.kind == kind]
        errors = {
            name: {index: boundary_errors(recordings[index], timed_words[index]) for index in indices}
            for name, timed_words in words.items()
        }
        for edge in ("start", "end"):
            keys = [
                (index, number)
                for index in indices
                for number, boundary in enumerate(recordings[index].boundaries)
                if boundary.edge == edge and all(number in system[index] for system in errors.values())
            ]
            for name, system in errors.items():
                for column, truth in enumerate(("manifest", "loud")):
                    offsets = np.array([system[index][number][column] for index, number in keys])
                    result.setdefault(kind, {}).setdefault(name, {})[f"{edge}, {truth}"] = {
                        "count": len(keys),
                        "median": round(float(np.median(np.abs(offsets))), 3),
                        "p95": round(float(np.percentile(np.abs(offsets), 95)), 3),
                        "bias": round(float(np.median(offsets)), 3),
                    }
    return result


def render(result: dict[str, Any]) -> str:
    """The tables of docs/results/words.md: median / 95th percentile of the absolute error in seconds."""
    columns = ("start, manifest", "end, manifest", "start, loud", "end, loud")
    tables = []
    for kind in dict.fromkeys(kind for kinds in result["errors"].values() for kind in kinds):
        rows = []
        for model, kinds in result["errors"].items():
            for name, cells in kinds[kind].items():
                figures = (f"{cells[column]['median']:.2f} / {cells[column]['p95']:.2f}" for column in columns)
                rows.append([f"{model}: {name}", *figures])
        tables.append(markdown_table([f"{kind}, error in s", *columns], rows))
    return "\n\n".join(tables)


def main() -> None:
    parser = argument_parser(__doc__, "words.json")
    parser.set_defaults(threads=1)
    parser.add_argument(
        "--speech", type=Path, required=True, help="directory of the datasets, each with a manifest.jsonl"
    )
    parser.add_argument("--models", nargs="*", default=["tiny.en", "base"], help="models that faster-whisper can load")
    parser.add_argument("--student", type=Path, help="directory of a student (ours only)")
    parser.add_argument("--teacher", default="base", help="teacher of the student")
    parser.add_argument("--seconds", type=float, default=240, help="seconds of each recording")
    options = parser.parse_args()
    set_threads(options.threads)

    recordings = list(load_recordings(options.speech, options.seconds))
    utterances = read_corpus(options.speech / HEADS_DATASET).utterances
    waves = [load_utterance_waveform(utterance) for utterance in utterances[:: len(utterances) // 12][:12]]
    result: dict[str, Any] = {
        "seconds": {
            kind: round(sum(len(w) for r in recordings if r.kind == kind for _, w in r.windows) / SAMPLE_RATE)
            for kind in dict.fromkeys(recording.kind for recording in recordings)
        },
        "heads": {},
        "errors": {},
    }
    models = [(name, name) for name in options.models] + [("student", str(options.student))] * bool(options.student)
    for title, name in models:
        checkpoint = load_checkpoint(name)
        if title == "student":  # training may have selected other heads
            checkpoint = with_inherited_heads(checkpoint, load_checkpoint(options.teacher))
        selected = with_alignment_heads(checkpoint, waves, ["en"] * len(waves), dtype=torch.float32)
        words = our_words(checkpoint, selected, recordings)
        if title != "student":
            words = {"faster-whisper": faster_whisper_words(name, recordings, options.threads), **words}
        result["heads"][title] = {
            "settings": checkpoint.generation_config.alignment_heads,
            "selected": selected.generation_config.alignment_heads,
        }
        result["errors"][title] = summarise(recordings, words)
        write_result(options.output, "word timestamps at known utterance boundaries", result)
    print(render(result))


def with_inherited_heads(student: Checkpoint, teacher: Checkpoint) -> Checkpoint:
    """The student with its teacher's alignment heads in the layers that it keeps."""
    layers = student.metadata["layers"]
    assert isinstance(layers, list)
    heads = remap_alignment_heads(teacher.generation_config.alignment_heads, tuple(layers), student.dims)
    return replace(student, generation_config=replace(student.generation_config, alignment_heads=heads))


if __name__ == "__main__":
    main()
