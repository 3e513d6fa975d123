"""How many words are heard where nobody speaks, and what do guards cost where somebody does?

Hypothesis: Whisper fills silence, noise and music with words; a guard that trusts pauses, repeats and the network's own
doubts removes most of them and takes no speech.
Method: silence, white and pink noise, mains hum and a run of tones, 30 s and 10 minutes of each, made from a seed at
-30 dB; and recorded noise without speech (the babble of ten voices is left out: it is speech). Ours beside two peers:
the plain teacher, every window of 30 s heard greedily and believed, and faster-whisper with its defaults (beams,
fallbacks, no voice activity detection). Words after the English normaliser, an hour. Then the word error rate of two
sets of speech with the hallucination filter and without. With and without are keywords of `transcribe`: `--with-filter`
and `--without-filter`, as JSON.
Limit: 0 words; and the same word error rate.

    python bench/hallucination.py --speech ../shared/speech
    python bench/hallucination.py --render bench/results/hallucination.json
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from whisperstill.cli.allocator import restart_with_allocator
from whisperstill.units import SAMPLE_RATE, WINDOW_SAMPLES

LEVEL = 10 ** (-30 / 20)
"""Root mean square of what is made, of full scale."""
SECONDS = (30, 600)
SETS = ("librispeech-mini-test", "ljspeech-ood")
Hear = Callable[[str], str]
"""A path to a text."""


def made(kind: str, samples: int) -> np.ndarray:
    """Sound without speech: silence, white, pink, hum (50 Hz and its odd harmonics) or tones (a melody of chords)."""
    from whisperstill.audio.noise import pink_noise, white_noise

    rng = np.random.default_rng(0)
    time = np.arange(samples) / SAMPLE_RATE
    if kind == "silence":
        return np.zeros(samples, np.float32)
    if kind in ("white", "pink"):
        sound = {"white": white_noise, "pink": pink_noise}[kind](samples, rng)
    elif kind == "hum":
        sound = sum(np.sin(2 * np.pi * 50 * harmonic * time) / harmonic for harmonic in (1, 3, 5, 7))
    else:
        beat = (2 * time).astype(int)  # half a second a chord, each dying away
        roots = 220 * 2 ** (rng.choice([0, 2, 4, 5, 7, 9, 11], beat[-1] + 1) / 12)
        phase = 2 * np.pi * np.cumsum(roots[beat]) / SAMPLE_RATE
        sound = sum(np.sin(step * phase) for step in (1, 5 / 4, 3 / 2, 2)) * np.exp(-4 * (time % 0.5))
    return (sound * LEVEL / np.sqrt(np.square(sound).mean())).astype(np.float32)


def without_speech(speech: Path, folder: Path, seconds: tuple[int, ...]) -> dict[str, list[str]]:
    """Kind -> files."""
    import soundfile

    files: dict[str, list[str]] = {}
    for kind in ("silence", "white", "pink", "hum", "tones"):
        for length in seconds:
            path = folder / f"{kind}-{length}.wav"
            soundfile.write(path, made(kind, length * SAMPLE_RATE), SAMPLE_RATE)
            files.setdefault(f"{kind}, {length} s", []).append(str(path))
    noise = sorted(path for path in (speech / "noise").rglob("*") if path.suffix in (".flac", ".wav", ".opus", ".ogg"))
    files["recorded noise"] = [str(path) for path in noise if "babble" not in path.name]
    return files


def ours(name: str, options: dict[str, Any]) -> Hear:
    """Our `transcribe`."""
    import whisperstill

    model = whisperstill.load(name, device="cpu")
    return lambda path: model.transcribe(path, language="en", **options).text


def plain(name: str) -> Hear:
    """The teacher's greedy words on every window of 30 s, whatever it thinks of them."""
    import torch

    from whisperstill.audio.audio_files import load_audio
    from whisperstill.audio.mel import pad_or_trim
    from whisperstill.decode.whisper_model import WhisperModel
    from whisperstill.model.checkpoints import load_checkpoint

    recogniser = WhisperModel(load_checkpoint(name))

    def hear(path: str) -> str:
        sound = load_audio(path)
        windows = [pad_or_trim(sound[at : at + WINDOW_SAMPLES]) for at in range(0, len(sound), WINDOW_SAMPLES)]
        heard = [recogniser.decode(recogniser.encode(torch.from_numpy(window)[None]), ["en"])[0] for window in windows]
        return " ".join(one.text for one in heard)

    return hear


def faster_whisper(name: str, folder: Path, threads: int) -> Hear:
    """faster-whisper as it comes."""
    from faster_whisper import WhisperModel

    from whisperstill.export.ctranslate2 import write_ctranslate2
    from whisperstill.model.checkpoints import load_checkpoint

    directory = write_ctranslate2(load_checkpoint(name), folder / "ct2")
    model = WhisperModel(str(directory), device="cpu", compute_type="float32", cpu_threads=threads)
    return lambda path: " ".join(one.text for one in model.transcribe(path, language="en")[0])


def words_an_hour(hear: Hear, files: list[str]) -> float:
    """Words heard in files, by their length."""
    from whisperstill.audio.audio_files import probe_duration
    from whisperstill.text.normalizers import get_normalizer

    words = sum(len(get_normalizer("english")(hear(path)).split()) for path in files)
    return 3600 * words / sum(probe_duration(path) for path in files)


def error_rate(hear: Hear, manifest: Path, clips: int | None) -> tuple[float, float, float]:
    """Word error rate in per cent with the ends of its interval."""
    from whisperstill.corpus import read_corpus
    from whisperstill.evaluate.score import score

    utterances = read_corpus(str(manifest)).utterances[:clips]
    found = score(
        [one.text or "" for one in utterances], [hear(one.audio.path) for one in utterances], normalizer="english"
    )
    return round(found.wer, 2), round(found.wer_low, 2), round(found.wer_high, 2)


def render(result: dict[str, Any]) -> str:
    """The tables of docs/results/hallucination.md."""
    who = list(next(iter(result["words_an_hour"].values())))
    lines = [f"| words an hour | {' | '.join(who)} |", "| --- |" + " ---: |" * len(who)]
    for kind, row in result["words_an_hour"].items():
        lines.append(f"| {kind} | " + " | ".join(f"{row[one]:.0f}" for one in who) + " |")
    columns = ("filter on", "filter off")
    lines += ["", f"| WER % (interval) | {' | '.join(columns)} |", "| --- | ---: | ---: |"]
    for name, row in result["wer"].items():
        cells = (f"{row[one][0]:.2f} ({row[one][1]:.2f} to {row[one][2]:.2f})" for one in columns)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, help="folder of the sets, each with a manifest.jsonl")
    parser.add_argument("--teacher", default="base")
    parser.add_argument("--with-filter", default="{}", help="keywords of transcribe, as JSON")
    parser.add_argument(
        "--without-filter", default='{"hallucination_filter": false}', help="keywords of transcribe, as JSON"
    )
    parser.add_argument("--seconds", nargs="+", type=int, default=list(SECONDS), help="lengths of what is made")
    parser.add_argument("--clips", type=int, help="only the first so many of each set of speech")
    parser.add_argument("--keep-peers", action="store_true", help="peers as the results have them")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("bench/results/hallucination.json"))
    parser.add_argument("--render", type=Path, help="print the tables of a result and end")
    options = parser.parse_args()
    if options.render:
        print(render(json.loads(options.render.read_text())))
        return
    if options.speech is None:
        parser.error("--speech: expected the folder of the sets")
    import torch

    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        files = without_speech(options.speech, folder, tuple(options.seconds))
        guarded = {
            "filter on": ours(options.teacher, json.loads(options.with_filter)),
            "filter off": ours(options.teacher, json.loads(options.without_filter)),
        }
        hearing = {
            "ours": guarded["filter on"],
            "the plain teacher": plain(options.teacher),
            "faster-whisper, defaults": faster_whisper(options.teacher, folder, options.threads),
        }
        words: dict[str, dict[str, float]] = {kind: {} for kind in files}
        if options.keep_peers:
            words = json.loads(options.output.read_text())["words_an_hour"]
            hearing = {"ours": hearing["ours"]}
        for kind, paths in files.items():
            words[kind] |= {name: round(words_an_hour(hear, paths), 1) for name, hear in hearing.items()}
            print(json.dumps({kind: words[kind]}), flush=True)
        rates = {
            name: {
                kind: error_rate(hear, options.speech / name / "manifest.jsonl", options.clips)
                for kind, hear in guarded.items()
            }
            for name in SETS
        }
    result = {
        "question": "words where nobody speaks",
        "teacher": options.teacher,
        "with_filter": json.loads(options.with_filter),
        "without_filter": json.loads(options.without_filter),
        "words_an_hour": words,
        "wer": rates,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(render(result))


if __name__ == "__main__":
    restart_with_allocator()
    main()
