"""How much text is hallucinated on audio without speech, and how much does the filter raise WER on speech?

Hypothesis: Whisper transcribes silence, noise and music as words; a filter based on voice activity, repetition and the
model's confidence removes most of these words and no speech.
Method: silence, white and pink noise, mains hum and a melody of chords, 30 s and 10 minutes of each, generated from a
seed at -30 dB; and recorded noise without speech (babble of ten voices is excluded: it is speech). whisperstill is
compared with the plain teacher (every 30-second window decoded greedily, all text kept) and with faster-whisper's
defaults (beam search, fallback, no VAD) by words per hour after the English normalizer. Then WER is measured on two
speech datasets with and without the filter. `--with-filter` and `--without-filter` hold the keywords of `transcribe`,
as JSON.
Limit: 0 words, and the same WER.

    python bench/hallucination.py --speech ../shared/speech
    python bench/hallucination.py --render bench/results/hallucination.json
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from harness import argument_parser, set_threads, write_result
from jaxtyping import Float32

import whisperstill
from whisperstill.audio.audio_files import load_audio, probe_duration
from whisperstill.audio.mel import pad_or_trim
from whisperstill.audio.noise import pink_noise, white_noise
from whisperstill.cli.allocator import restart_with_allocator
from whisperstill.corpus import read_corpus
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.evaluate.engines import load_engine
from whisperstill.evaluate.metrics import Scoring, score
from whisperstill.model.checkpoints import load_checkpoint
from whisperstill.text.markdown import markdown_table
from whisperstill.text.normalizers import get_normalizer
from whisperstill.units import SAMPLE_RATE, WINDOW_SAMPLES

RMS_LEVEL = 10 ** (-30 / 20)
"""Root mean square of generated audio, relative to full scale."""
SECONDS = (30, 600)
DATASETS = ("librispeech-mini-test", "ljspeech-ood")
Transcribe = Callable[[str], str]
"""Path of a file -> text."""


def generate_audio(kind: str, samples: int) -> Float32[np.ndarray, "samples"]:
    """Audio without speech: silence, white, pink, hum (50 Hz and odd harmonics) or tones (a melody of chords)."""
    rng = np.random.default_rng(0)
    time = np.arange(samples) / SAMPLE_RATE
    if kind == "silence":
        return np.zeros(samples, np.float32)
    if kind in ("white", "pink"):
        audio = {"white": white_noise, "pink": pink_noise}[kind](samples, rng)
    elif kind == "hum":
        audio = sum((np.sin(2 * np.pi * 50 * n * time) / n for n in (1, 3, 5, 7)), np.zeros(samples))
    else:
        beat = (2 * time).astype(int)  # two chords per second, each decaying
        roots = 220 * 2 ** (rng.choice([0, 2, 4, 5, 7, 9, 11], beat[-1] + 1) / 12)
        phase = 2 * np.pi * np.cumsum(roots[beat]) / SAMPLE_RATE
        chord = sum((np.sin(interval * phase) for interval in (1, 5 / 4, 3 / 2, 2)), np.zeros(samples))
        audio = chord * np.exp(-4 * (time % 0.5))
    scaled: Float32[np.ndarray, "samples"] = audio * RMS_LEVEL / np.sqrt(np.square(audio).mean())
    return scaled.astype(np.float32)


def non_speech_files(speech: Path, folder: Path, seconds: list[int]) -> dict[str, list[str]]:
    """Kind -> files: generated ones, and the recorded noise of the speech directory."""
    files: dict[str, list[str]] = {}
    for kind in ("silence", "white", "pink", "hum", "tones"):
        for length in seconds:
            path = folder / f"{kind}-{length}.wav"
            soundfile.write(path, generate_audio(kind, length * SAMPLE_RATE), SAMPLE_RATE)
            files.setdefault(f"{kind}, {length} s", []).append(str(path))
    noise = sorted(path for path in (speech / "noise").rglob("*") if path.suffix in (".flac", ".wav", ".opus", ".ogg"))
    files["recorded noise"] = [str(path) for path in noise if "babble" not in path.name]
    return files


def our_transcribe(name: str, options: dict[str, Any]) -> Transcribe:
    """Our `transcribe`."""
    transcriber = whisperstill.load(name, device="cpu")
    return lambda path: transcriber.transcribe(path, language="en", **options).text


def plain_teacher(name: str) -> Transcribe:
    """Greedy text of every 30-second window, without any threshold."""
    model = WhisperModel(load_checkpoint(name))

    def transcribe(path: str) -> str:
        waveform = load_audio(path)
        starts = range(0, len(waveform), WINDOW_SAMPLES)
        windows = (torch.from_numpy(pad_or_trim(waveform[start : start + WINDOW_SAMPLES])) for start in starts)
        return " ".join(model.decode(model.encode(window[None]), ["en"])[0].text for window in windows)

    return transcribe


def faster_whisper(name: str, cache: Path) -> Transcribe:
    """faster-whisper with its defaults."""
    engine: Any = load_engine("faster-whisper", name, cache, device="cpu", dtype="float32")
    return lambda path: " ".join(segment.text for segment in engine.model.transcribe(path, language="en")[0])


def words_per_hour(transcribe: Transcribe, files: list[str]) -> float:
    """Normalized words per hour of audio."""
    normalize = get_normalizer("english")
    words = sum(len(normalize(transcribe(path)).split()) for path in files)
    return 3600 * words / sum(probe_duration(path) for path in files)


def error_rate(transcribe: Transcribe, manifest: Path, clips: int | None) -> tuple[float, float, float]:
    """WER in per cent, and the bounds of its interval."""
    utterances = read_corpus(str(manifest)).utterances[:clips]
    references = [utterance.text or "" for utterance in utterances]
    result = score(references, [transcribe(utterance.audio.path) for utterance in utterances], Scoring("english"))
    return round(result.wer, 2), round(result.wer_low, 2), round(result.wer_high, 2)


def render(result: dict[str, Any]) -> str:
    """The tables of docs/results/hallucination.md."""
    systems = list(next(iter(result["words_per_hour"].values())))
    words = [[kind, *(f"{row[name]:.0f}" for name in systems)] for kind, row in result["words_per_hour"].items()]
    columns = ("filter on", "filter off")
    rates = [
        [name, *("{:.2f} ({:.2f} to {:.2f})".format(*row[column]) for column in columns)]
        for name, row in result["wer"].items()
    ]
    return "\n\n".join(
        [markdown_table(["words per hour", *systems], words), markdown_table(["WER % (interval)", *columns], rates)]
    )


def main() -> None:
    parser = argument_parser(__doc__, "hallucination.json")
    parser.add_argument("--speech", type=Path, help="directory of the datasets, each with a manifest.jsonl")
    parser.add_argument("--teacher", default="base")
    parser.add_argument("--with-filter", default="{}", help="keywords of transcribe, as JSON")
    parser.add_argument(
        "--without-filter", default='{"hallucination_filter": false}', help="keywords of transcribe, as JSON"
    )
    parser.add_argument("--seconds", nargs="+", type=int, default=list(SECONDS), help="lengths of generated files")
    parser.add_argument("--clips", type=int, help="clips per speech dataset; default: all")
    parser.add_argument("--keep-peers", action="store_true", help="keep the other systems' figures of the result file")
    parser.add_argument("--render", type=Path, help="print the tables of a result file and exit")
    options = parser.parse_args()
    if options.render:
        print(render(json.loads(options.render.read_text())))
        return
    if options.speech is None:
        parser.error("--speech: expected the directory of the datasets")
    set_threads(options.threads)
    with_filter, without_filter = json.loads(options.with_filter), json.loads(options.without_filter)
    filter_modes = {
        "filter on": our_transcribe(options.teacher, with_filter),
        "filter off": our_transcribe(options.teacher, without_filter),
    }
    with tempfile.TemporaryDirectory() as folder:
        files = non_speech_files(options.speech, Path(folder), options.seconds)
        systems = {"ours": filter_modes["filter on"]}
        words: dict[str, dict[str, float]] = {kind: {} for kind in files}
        if options.keep_peers:
            words = json.loads(options.output.read_text())["words_per_hour"]
        else:
            systems["the plain teacher"] = plain_teacher(options.teacher)
            systems["faster-whisper, defaults"] = faster_whisper(options.teacher, Path(folder))
        for kind, paths in files.items():
            words[kind] |= {name: round(words_per_hour(system, paths), 1) for name, system in systems.items()}
            print(json.dumps({kind: words[kind]}), flush=True)
    wer = {
        name: {
            mode: error_rate(transcribe, options.speech / name / "manifest.jsonl", options.clips)
            for mode, transcribe in filter_modes.items()
        }
        for name in DATASETS
    }
    result = {
        "teacher": options.teacher,
        "with_filter": with_filter,
        "without_filter": without_filter,
        "words_per_hour": words,
        "wer": wer,
    }
    write_result(options.output, "words on audio without speech", result)
    print(render(result))


if __name__ == "__main__":
    restart_with_allocator()
    main()
