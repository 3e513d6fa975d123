"""Does memory stay bounded on ten hours of audio, and does one call handle 500 files, some of them broken?

Hypothesis: memory holds only two batches of windows and the text so far, so ten hours need as much as ten minutes.
Method: a FLAC of `--hours`, written block by block from the speech datasets. Only `--speech-share` of it is speech, the
rest silence, because ten hours of speech take long to decode. Then `--files` short files in one call, and a directory
with three broken files among three good ones. Each input has its own process; peak memory is the kernel's figure.
Limit: the model itself (`loaded_gib`, measured before the first file is opened).

    python bench/large.py --speech ../shared/speech --speech-share 0.02
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from harness import argument_parser, peak_memory_gib, read_clips, set_threads, write_result

import whisperstill
from whisperstill.audio.audio_files import load_audio
from whisperstill.cli.allocator import restart_with_allocator
from whisperstill.units import SAMPLE_RATE

BLOCK_SAMPLES = 60 * SAMPLE_RATE
SHORT_DATASETS = ("asterisk-en-prompts", "librispeech-mini-test", "ljspeech-ood")
"""Shortest clips first."""
BROKEN_FILES = {"empty.wav": b"", "junk.mp3": b"no audio at all" * 100, "cut.flac": b"fLaC\x00\x00\x00\x22" + bytes(20)}


def write_long_recording(paths: list[str], output: Path, hours: float, speech_share: float) -> None:
    """A FLAC of `hours`: clips one after the other, each followed by its share of silence."""
    samples_left = round(hours * 3600 * SAMPLE_RATE)
    with soundfile.SoundFile(output, "w", SAMPLE_RATE, 1) as file:
        for path in cycle(paths):
            waveform = load_audio(path)
            total = len(waveform) + round(len(waveform) * (1 / speech_share - 1))
            for start in range(0, total, BLOCK_SAMPLES):
                block = waveform[start : start + BLOCK_SAMPLES]
                block = np.pad(block, (0, min(BLOCK_SAMPLES, total - start) - len(block)))[:samples_left]
                file.write(block)
                samples_left -= len(block)
            if samples_left <= 0:
                return


def mix_broken_files(folder: Path, good_paths: list[str]) -> Iterator[str]:
    """Broken files (empty, junk, truncated after the header), each followed by a link to a good one."""
    folder.mkdir()
    for (name, content), path in zip(BROKEN_FILES.items(), good_paths, strict=True):
        (folder / name).write_bytes(content)
        yield str(folder / name)
        link = folder / Path(path).name
        link.symlink_to(Path(path).resolve())
        yield str(link)


def transcribe_files(task: dict[str, Any]) -> dict[str, Any]:
    """One call over all files, in the measured process."""
    set_threads(task["threads"])
    model = whisperstill.load(task["model"], device="cpu")
    loaded_gib, start_time = peak_memory_gib(), time.perf_counter()
    words = failed = 0
    audio_seconds = 0.0
    for _, result in model.transcribe_many(task["paths"], language="en", **task["options"]):
        if isinstance(result, whisperstill.AudioError):
            failed += 1
        else:
            words, audio_seconds = words + len(result.text.split()), audio_seconds + result.duration
    return {
        "files": len(task["paths"]),
        "failed": failed,
        "hours": round(audio_seconds / 3600, 3),
        "words": words,
        "seconds": round(time.perf_counter() - start_time, 1),
        "loaded_gib": round(loaded_gib, 3),
        "peak_gib": round(peak_memory_gib(), 3),
    }


def run_in_process(paths: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """`transcribe_files` in its own process; its exit code if it crashes."""
    task = {"model": options.model, "threads": options.threads, "options": json.loads(options.ours), "paths": paths}
    command = [sys.executable, __file__, "--worker"]
    process = subprocess.run(command, input=json.dumps(task), stdout=subprocess.PIPE, text=True, check=False)
    if process.returncode:
        return {"exit": process.returncode}
    result: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argument_parser(__doc__, "large.json")
    parser.add_argument("--speech", type=Path, help="directory of the datasets, each with a manifest.jsonl")
    parser.add_argument("--model", default="base")
    parser.add_argument("--hours", type=float, default=10)
    parser.add_argument("--speech-share", type=float, default=1.0, help="share of the long file that is speech")
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--ours", default="{}", help="further keywords of transcribe, as JSON")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(transcribe_files(json.load(sys.stdin))))
        return
    if options.speech is None or not 0 < options.speech_share <= 1:
        parser.error("expected --speech DIRECTORY and a --speech-share above 0 and at most 1")

    clips = [clip.path for clip in read_clips(options.speech, SHORT_DATASETS)]
    result: dict[str, Any] = {"model": options.model, "speech_share": options.speech_share}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.hours:
            speech = [clip.path for clip in read_clips(options.speech, ["librispeech-mini-test"])]
            write_long_recording(speech, folder / "long.flac", options.hours, options.speech_share)
            result["long"] = run_in_process([str(folder / "long.flac")], options)
        if options.files:
            result["many"] = run_in_process(clips[: options.files], options)
        result["broken"] = run_in_process(list(mix_broken_files(folder / "mixed", clips[:3])), options)
    print(json.dumps(result))
    write_result(options.output, "large inputs", result)


if __name__ == "__main__":
    restart_with_allocator()
    main()
