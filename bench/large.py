"""Does memory stay bounded on ten hours, and does one call take 500 files, three of them broken?

Hypothesis: what is held is two batches of pieces and the text so far, so ten hours peak where ten minutes do.
Method: a FLAC of `--hours`, written block by block from the speech sets; only `--speech-share` of it is speech, the
rest silence, since ten hours of speech take long to hear; then `--files` short files in one call, and a folder with
three broken files among three good ones. Each in a process of its own, whose peak of memory is the kernel's figure.
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

from whisperstill.cli.allocator import restart_with_allocator
from whisperstill.units import SAMPLE_RATE


def join(paths: list[str], output: Path, hours: float, speech_share: float) -> None:
    """A FLAC of `hours`: clips one after the other, each followed by its part of silence."""
    import numpy as np
    import soundfile

    from whisperstill.audio.audio_files import load_audio

    left = round(hours * 3600 * SAMPLE_RATE)
    with soundfile.SoundFile(output, "w", SAMPLE_RATE, 1) as file:
        for path in cycle(paths):
            sound = load_audio(path)
            silence = round(len(sound) * (1 / speech_share - 1))
            for at in range(0, len(sound) + silence, 60 * SAMPLE_RATE):
                block = sound[at : at + 60 * SAMPLE_RATE]
                block = np.pad(block, (0, min(60 * SAMPLE_RATE, len(sound) + silence - at) - len(block)))[:left]
                file.write(block)
                left -= len(block)
            if left <= 0:
                return


def clips(speech: Path, count: int) -> list[str]:
    """Short files, shortest sets first."""
    from whisperstill.corpus import read_corpus

    sets = ("asterisk-en-prompts", "librispeech-mini-test", "ljspeech-ood")
    found = (one for name in sets for one in read_corpus(str(speech / name / "manifest.jsonl")).utterances)
    return [one.audio.path for one, _ in zip(found, range(count), strict=False)]


def broken_folder(folder: Path, good: list[str]) -> Iterator[str]:
    """Three links to good files between an empty one, one of junk and one that is cut off behind its header."""
    contents = {"empty.wav": b"", "junk.mp3": b"no sound at all" * 100, "cut.flac": b"fLaC\x00\x00\x00\x22" + bytes(20)}
    for (name, content), path in zip(contents.items(), good, strict=True):
        (folder / name).write_bytes(content)
        yield str(folder / name)
        link = folder / Path(path).name
        link.symlink_to(Path(path).resolve())
        yield str(link)


def hear(task: dict[str, Any]) -> dict[str, Any]:
    """In the process that is measured: one call over all files."""
    import torch

    import whisperstill

    torch.set_num_threads(task["threads"])
    model = whisperstill.load(task["model"], device="cpu")
    loaded, begun = peak_gib(), time.perf_counter()
    words = failed = 0
    audio = 0.0
    for _, result in model.transcribe_many(task["paths"], language="en", **task["options"]):
        if isinstance(result, whisperstill.AudioError):
            failed += 1
        else:
            words, audio = words + len(result.text.split()), audio + result.duration
    return {
        "files": len(task["paths"]),
        "failed": failed,
        "hours": round(audio / 3600, 3),
        "words": words,
        "seconds": round(time.perf_counter() - begun, 1),
        "loaded_gib": loaded,
        "peak_gib": peak_gib(),
    }


def peak_gib() -> float:
    """Most memory this process has held."""
    lines = Path("/proc/self/status").read_text().splitlines()  # ru_maxrss would count what the parent held at the fork
    return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20, 3)


def in_a_process(**task: Any) -> dict[str, Any]:
    """`hear` in a process of its own; a crash is a finding, too."""
    done = subprocess.run(
        [sys.executable, __file__, "--hear"], input=json.dumps(task), stdout=subprocess.PIPE, text=True
    )
    found: dict[str, Any] = (
        json.loads(done.stdout.splitlines()[-1]) if not done.returncode else {"exit": done.returncode}
    )
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, help="folder of the sets, each with a manifest.jsonl")
    parser.add_argument("--model", default="base")
    parser.add_argument("--hours", type=float, default=10)
    parser.add_argument("--speech-share", type=float, default=1.0, help="part of the long file that is speech")
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ours", default="{}", help="further keywords of transcribe, as JSON")
    parser.add_argument("--hear", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.hear:
        print(json.dumps(hear(json.load(sys.stdin))))
        return
    if options.speech is None or not 0 < options.speech_share <= 1:
        parser.error("expected --speech FOLDER and a --speech-share above 0 and at most 1")

    how = {"model": options.model, "threads": options.threads, "options": json.loads(options.ours)}
    result: dict[str, Any] = {"question": "large inputs", "model": options.model, "speech_share": options.speech_share}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if options.hours:
            from whisperstill.corpus import read_corpus

            spoken = read_corpus(str(options.speech / "librispeech-mini-test" / "manifest.jsonl")).utterances
            join([one.audio.path for one in spoken], folder / "long.flac", options.hours, options.speech_share)
            result["long"] = in_a_process(paths=[str(folder / "long.flac")], **how)
        if options.files:
            result["many"] = in_a_process(paths=clips(options.speech, options.files), **how)
        (folder / "mixed").mkdir()
        mixed = list(broken_folder(folder / "mixed", clips(options.speech, 3)))
        result["broken"] = in_a_process(paths=mixed, **how)
    print(json.dumps(result))


if __name__ == "__main__":
    restart_with_allocator()
    main()
