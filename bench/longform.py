"""Which way through a long recording loses least: chunked, sequential, vad or silence, beside peers on equal weights?

Hypothesis: overlapping chunks joined by their words come within 0.3 points of the best sequential decoding. Method:
word error rate (Whisper's English normaliser) over longform-librispeech and longform-ljspeech, each whole; the peers
(faster-whisper, transformers' sequential) read the same weights. With --joined all recordings are one of an hour, by
many voices. No time is measured here.

    python bench/longform.py --speech ../shared/speech --models base tiny.en runs/mini-librispeech/student
    python bench/longform.py ... --joined --models base --ways "chunked 30 s" vad faster-whisper

Rows of other runs are kept in the results.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from whisperstill.atomic_io import atomic_write
from whisperstill.audio.audio_files import load_audio
from whisperstill.decode.transcriber import load
from whisperstill.evaluate.score import score
from whisperstill.export.ctranslate2 import write_ctranslate2
from whisperstill.model.checkpoints import load_checkpoint, write_huggingface
from whisperstill.units import SAMPLE_RATE

SETS = ("longform-librispeech", "longform-ljspeech")
OURS: dict[str, dict[str, Any]] = {
    "silence": {"long_form": "silence"},
    "vad": {"long_form": "vad"},
    "sequential": {"long_form": "sequential"},
    "chunked 30 s": {"long_form": "chunked", "chunk_length": 30.0},
    "chunked 15 s": {"long_form": "chunked", "chunk_length": 15.0},
}
PEERS = ("faster-whisper", "transformers")


def ours(model: str, options: dict[str, Any]) -> Callable[[str], str]:
    """Our transcript of a file."""
    transcriber = load(model, device="cpu", dtype="float32")
    return lambda path: transcriber.transcribe(path, language="en", **options).text


def faster_whisper(model: str, folder: Path) -> Callable[[str], str]:
    """openai/whisper's sequential algorithm as faster-whisper has it, greedy."""
    from faster_whisper import WhisperModel

    checkpoint = load_checkpoint(model)
    write_ctranslate2(checkpoint, folder, "float32")
    peer = WhisperModel(str(folder), device="cpu", compute_type="float32", cpu_threads=torch.get_num_threads())
    # A student that saw neither timestamps nor prompts is told so: with them it loses four words of five.
    told = {"without_timestamps": True, "condition_on_previous_text": False}
    plain = told if "teacher" in checkpoint.metadata else {}

    def text(path: str) -> str:
        segments, _ = peer.transcribe(path, language="en", beam_size=1, best_of=5, **plain)
        return " ".join(segment.text.strip() for segment in segments)

    return text


def transformers(model: str, folder: Path) -> Callable[[str], str]:
    """The same as transformers has it: `generate` on the whole recording."""
    from transformers import WhisperForConditionalGeneration, WhisperProcessor

    write_huggingface(load_checkpoint(model), folder)
    processor = WhisperProcessor.from_pretrained(folder)
    network = WhisperForConditionalGeneration.from_pretrained(folder).eval()
    multilingual = network.generation_config.is_multilingual

    def text(path: str) -> str:
        wave = load_audio(path)
        inputs = processor(
            wave,
            sampling_rate=16_000,
            return_tensors="pt",
            truncation=False,
            padding="longest",
            return_attention_mask=True,
        )
        options = {"language": "en", "task": "transcribe"} if multilingual else {}
        with torch.inference_mode():
            ids = network.generate(
                **inputs,
                **options,
                return_timestamps=True,
                condition_on_prev_tokens=True,
                temperature=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
                compression_ratio_threshold=2.4,
                logprob_threshold=-1.0,
                no_speech_threshold=0.6,
            )
        return str(processor.batch_decode(ids, skip_special_tokens=True)[0])

    return text


@dataclass(frozen=True)
class Recording:
    """One to be heard."""

    set: str
    path: str
    text: str


def found_in(speech: Path, ids: list[str]) -> list[Recording]:
    """The recordings of the sets, or these of them."""
    recordings = []
    for name in SETS:
        for line in (speech / name / "manifest.jsonl").read_text().splitlines():
            one = json.loads(line)
            if not ids or one["id"] in ids:
                recordings.append(Recording(name, str(speech / name / one["audio"]), one["text"]))
    return recordings


def joined(recordings: list[Recording], path: Path) -> Recording:
    """All as one."""
    wave = np.concatenate([load_audio(one.path) for one in recordings])
    soundfile.write(path, wave, SAMPLE_RATE)
    return Recording("joined", str(path), " ".join(one.text for one in recordings))


def row(model: str, way: str, recordings: list[Recording], more: dict[str, Any]) -> dict[str, Any]:
    """What a way of a model loses, set by set."""
    with tempfile.TemporaryDirectory() as folder:
        peers = {"faster-whisper": faster_whisper, "transformers": transformers}
        hear = peers[way](model, Path(folder)) if way in peers else ours(model, OURS[way] | more)
        texts = [hear(one.path) for one in recordings]
    found: dict[str, Any] = {"model": model, "way": way}
    for name in dict.fromkeys(one.set for one in recordings):
        chosen = [at for at, one in enumerate(recordings) if one.set == name]
        scored = score([recordings[at].text for at in chosen], [texts[at] for at in chosen], normalizer="english")
        edits = scored.edits
        found[name] = {
            "wer": round(scored.wer, 2),
            "words": scored.words,
            "insertions": edits.insertions,
            "deletions": edits.deletions,
            "substitutions": edits.substitutions,
        }
    return found


def render(result: dict[str, Any]) -> str:
    """The table of docs/results/longform.md: WER, and what was inserted, deleted, substituted."""
    sets = [*SETS, "joined"]
    lines = ["| | | " + " | ".join(sets) + " |", "| --- | --- |" + " ---: |" * len(sets)]
    for one in result["rows"]:
        cells = [
            "-"
            if cell is None
            else f"{cell['wer']:.2f} ({cell['insertions']}, {cell['deletions']}, {cell['substitutions']})"
            for cell in (one.get(name) for name in sets)
        ]
        lines.append(f"| {Path(one['model']).name} | {one['way']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path)
    parser.add_argument("--models", nargs="+", default=["base", "tiny.en"])
    parser.add_argument("--ways", nargs="+", choices=[*OURS, *PEERS], default=[*OURS, *PEERS])
    parser.add_argument("--recordings", nargs="+", default=[], help="ids; default: all")
    parser.add_argument("--joined", action="store_true", help="all as one recording")
    parser.add_argument("--ours", type=json.loads, default={}, help="more options of transcribe")
    parser.add_argument("--output", type=Path, default=Path("bench/results/longform.json"))
    parser.add_argument("--render", type=Path, help="print the table of a result and end")
    given = parser.parse_args()
    if given.render:
        print(render(json.loads(given.render.read_text())))
        return
    if given.speech is None:
        parser.error("--speech: expected the folder of the sets")
    known = json.loads(given.output.read_text())["rows"] if given.output.exists() else []
    rows: dict[tuple[str, str], dict[str, Any]] = {(one["model"], one["way"]): one for one in known}
    with tempfile.TemporaryDirectory() as folder:
        recordings = found_in(given.speech, given.recordings)
        if given.joined:
            recordings = [joined(recordings, Path(folder) / "joined.flac")]
        for model in given.models:
            for way in given.ways:
                one = row(model, way, recordings, given.ours)
                rows[model, way] = rows.get((model, way), {}) | one
                print(json.dumps(one), flush=True)
                content = {"command": "bench/longform.py", "rows": list(rows.values())}
                atomic_write(given.output, json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
