"""How far from the truth are word times, against faster-whisper's?

Hypothesis: with the same weights and the same attention both are equally far off; that words respect the pauses of the
waveform, and that the heads are chosen by listening for pauses, brings ours nearer.
Method: recordings that are known utterances joined, cut at silences into windows of at most 30 s; every engine hears
the same windows, greedily, in float32. Words are matched to the reference by edit distance; where an utterance's first
word was heard right by every engine its start is compared with the utterance's, likewise the last word's end. Truth is
taken twice: as the manifest has it, which in LibriSpeech holds silence at both ends, and cut to where the recording is
loud (10 dB above its floor, but no less than 35 dB under its loud parts). Cut truth rests on energy nearly as our
pauses do and favours them; the manifest's starts of LJSpeech, whose clips are cut tightly, do not. Heads are found on
a dozen utterances of a set that the recordings share no speaker with.
Limit: half a position of the encoder, 0.01 s. With --seconds 200 it takes about ten minutes on one shared thread.

    python bench/words.py --speech ../shared/speech --student runs/mini-librispeech/student
"""

import argparse
import json
import platform
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
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
from whisperstill.text.normalizers import normalize_word
from whisperstill.units import HOP_SAMPLES, SAMPLE_RATE, WINDOW_SAMPLES, WINDOW_SECONDS

RECORDINGS = (
    ("longform-librispeech", "32-21631"),
    ("longform-librispeech", "669-129074"),
    ("longform-ljspeech", "LJ001"),
)
HEADS_FROM = "librispeech-mini-train"
Heard = list[tuple[float, float, str]]
"""Words of a recording: start, end, text."""


@dataclass(frozen=True)
class Bound:
    """An utterance's edge, and the word there."""

    word: int
    """Index among the reference words."""
    edge: str
    """`start` or `end`."""
    manifest: float
    loud: float


@dataclass(frozen=True)
class Recording:
    """A stretch of a recording with its truth."""

    kind: str
    reference: list[str]
    bounds: list[Bound]
    windows: list[tuple[float, np.ndarray]]


def loud_frames(waveform: np.ndarray) -> np.ndarray:
    """Which 10 ms are loud."""
    frames = waveform[: len(waveform) // HOP_SAMPLES * HOP_SAMPLES].reshape(-1, HOP_SAMPLES)
    decibels = 10 * np.log10(np.square(frames, dtype=np.float64).mean(1) + 1e-10)
    smooth = np.convolve(np.pad(decibels, 1, mode="edge"), np.full(3, 1 / 3), mode="valid")
    floor, loud = np.percentile(smooth, [10, 95])
    mask: np.ndarray = smooth > max(floor + 10, loud - 35)
    return mask


def recordings(speech: Path, seconds: float) -> Iterator[Recording]:
    """The first `seconds` of each, as far as whole utterances go."""
    for kind, name in RECORDINGS:
        lines = (speech / kind / "manifest.jsonl").read_text().splitlines()
        entry = next(entry for entry in map(json.loads, lines) if entry["id"] == name)
        path = speech / kind / entry["audio"]
        segments = [one for one in entry["segments"] if one["end"] <= seconds]
        loud = loud_frames(load_audio(path))
        reference: list[str] = []
        bounds = []
        for one in segments:
            words = [word for text in one["text"].replace("-", " ").split() if (word := normalize_word(text))]
            on = np.flatnonzero(loud[int(one["start"] * 100) : int(one["end"] * 100)])
            bounds.append(Bound(len(reference), "start", one["start"], one["start"] + on[0] / 100))
            reference += words
            bounds.append(Bound(len(reference) - 1, "end", one["end"], one["start"] + (on[-1] + 1) / 100))
        windows = [
            (start, load_audio(path, start, length)[:WINDOW_SAMPLES])
            for start, length in cut_file(path, WINDOW_SECONDS, 0.0, segments[-1]["end"])
        ]
        yield Recording(kind, reference, bounds, windows)


def errors(recording: Recording, heard: Heard) -> dict[int, tuple[float, float]]:
    """Of each bound whose word was heard right: seconds from the manifest's and from the loud edge."""
    hypothesis, owner = [], []
    for index, (_, _, text) in enumerate(heard):
        for part in text.replace("-", " ").split():
            hypothesis.append(normalize_word(part))
            owner.append(index)
    matched = {
        i: owner[j]
        for i, j in align(recording.reference, hypothesis)
        if i is not None and j is not None and recording.reference[i] == hypothesis[j]
    }
    found = {}
    for number, bound in enumerate(recording.bounds):
        if bound.word in matched:
            start, end, _ = heard[matched[bound.word]]
            time = start if bound.edge == "start" else end
            found[number] = (time - bound.manifest, time - bound.loud)
    return found


def of_ours(checkpoint: Checkpoint, found: Checkpoint, recordings: Sequence[Recording]) -> dict[str, list[Heard]]:
    """Words of the settings' and the found heads, without and with pauses; one transcript for all four."""
    recogniser = WhisperModel(checkpoint, dtype=torch.float32)
    heads = {"settings' heads": checkpoint.generation_config, "found heads": found.generation_config}
    words: dict[str, list[Heard]] = {}
    for recording in recordings:
        starts = [start for start, _ in recording.windows]
        durations = [len(wave) / SAMPLE_RATE for _, wave in recording.windows]
        waves = torch.from_numpy(np.stack([pad_or_trim(wave) for _, wave in recording.windows]))
        states = recogniser.encode(waves)
        heard = recogniser.decode(states, ["en"] * len(states))
        for name, generation in heads.items():
            recogniser.generation_config = generation
            for suffix, sound in (("", None), (", pauses", waves)):
                aligned = align_words(recogniser, states, heard, durations, waveforms=sound)
                words.setdefault(f"ours, {name}{suffix}", []).append(
                    [
                        (at + one.start, at + one.end, one.word)
                        for at, each in zip(starts, aligned, strict=True)
                        for one in each
                    ]
                )
    return words


def of_faster_whisper(name: str, recordings: Sequence[Recording], threads: int) -> list[Heard]:
    """The same windows."""
    from faster_whisper import WhisperModel

    with tempfile.TemporaryDirectory() as folder:
        load_ctranslate2(name, Path(folder) / "model", threads)
        model = WhisperModel(
            str(Path(folder) / "model"), device="cpu", compute_type="float32", cpu_threads=threads, num_workers=1
        )
        return [
            [
                (at + word.start, at + word.end, word.word)
                for at, wave in recording.windows
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


def summary(recordings: Sequence[Recording], words: dict[str, list[Heard]]) -> dict[str, Any]:
    """Median and 95th percentile of absolute errors, and the median error, where every engine heard the word right."""
    result: dict[str, Any] = {}
    for kind in dict.fromkeys(one.kind for one in recordings):
        chosen = [index for index, one in enumerate(recordings) if one.kind == kind]
        found = {name: {at: errors(recordings[at], heard[at]) for at in chosen} for name, heard in words.items()}
        for edge in ("start", "end"):
            keys = [
                (at, number)
                for at in chosen
                for number, bound in enumerate(recordings[at].bounds)
                if bound.edge == edge and all(number in one[at] for one in found.values())
            ]
            for name, one in found.items():
                for place, truth in enumerate(("manifest", "loud")):
                    off = np.array([one[at][number][place] for at, number in keys])
                    result.setdefault(kind, {}).setdefault(name, {})[f"{edge}, {truth}"] = {
                        "count": len(keys),
                        "median": round(float(np.median(np.abs(off))), 3),
                        "p95": round(float(np.percentile(np.abs(off), 95)), 3),
                        "bias": round(float(np.median(off)), 3),
                    }
    return result


def tables(result: dict[str, Any]) -> str:
    """Markdown: median / 95th percentile of the absolute error in seconds."""
    columns = ("start, manifest", "end, manifest", "start, loud", "end, loud")
    lines = []
    for kind in dict.fromkeys(kind for found in result["errors"].values() for kind in found):
        lines += ["", f"| {kind} | " + " | ".join(columns) + " |", "| --- " * (len(columns) + 1) + "|"]
        for model, found in result["errors"].items():
            for name, cells in found[kind].items():
                shown = [f"{cells[column]['median']:.2f} / {cells[column]['p95']:.2f}" for column in columns]
                lines.append(f"| {model}: {name} | " + " | ".join(shown) + " |")
    return "\n".join(lines[1:])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, required=True, help="folder of the sets, each with a manifest.jsonl")
    parser.add_argument("--models", nargs="*", default=["tiny.en", "base"], help="models that faster-whisper has, too")
    parser.add_argument("--student", type=Path, help="a trained student, ours alone")
    parser.add_argument("--teacher", default="base", help="the student's")
    parser.add_argument("--seconds", type=float, default=240, help="of each recording")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("bench/results/words.json"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    listed = list(recordings(options.speech, options.seconds))
    utterances = read_corpus(options.speech / HEADS_FROM).utterances
    waves = [load_utterance_waveform(one) for one in utterances[:: len(utterances) // 12][:12]]
    result: dict[str, Any] = {
        "question": "word times at known utterance boundaries",
        "seconds": {
            kind: round(sum(len(w) for one in listed if one.kind == kind for _, w in one.windows) / SAMPLE_RATE)
            for kind in dict.fromkeys(one.kind for one in listed)
        },
        "threads": options.threads,
        "machine": platform.machine(),
        "versions": {name: version(name) for name in ("torch", "faster-whisper", "ctranslate2")},
        "heads": {},
        "errors": {},
    }
    named = [(name, name) for name in options.models] + [("student", str(options.student))] * bool(options.student)
    for shown, name in named:
        checkpoint = load_checkpoint(name)
        if shown == "student":  # a student may have found its heads in training: begin with what it inherited
            checkpoint = inherited(checkpoint, load_checkpoint(options.teacher))
        found = with_alignment_heads(checkpoint, waves, ["en"] * len(waves), dtype=torch.float32)
        words = of_ours(checkpoint, found, listed)
        if shown != "student":
            words = {"faster-whisper": of_faster_whisper(name, listed, options.threads), **words}
        result["heads"][shown] = {
            "settings": checkpoint.generation_config.alignment_heads,
            "found": found.generation_config.alignment_heads,
        }
        result["errors"][shown] = summary(listed, words)
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(tables(result))


def inherited(student: Checkpoint, teacher: Checkpoint) -> Checkpoint:
    """The student with its teacher's heads, as far as their layers are left."""
    layers = student.metadata["layers"]
    assert isinstance(layers, list)
    heads = remap_alignment_heads(teacher.generation_config.alignment_heads, tuple(layers), student.dims)
    return replace(student, generation_config=replace(student.generation_config, alignment_heads=heads))


if __name__ == "__main__":
    main()
