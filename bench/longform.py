"""Which way through a long recording loses least: chunked, sequential, vad or quiet, beside the peers on equal weights?

Hypothesis: overlapping chunks joined by their words come within 0.3 points of the best sequential decoding. Method:
word error rate (Whisper's English normaliser) over longform-librispeech and longform-ljspeech, each whole; the peers
(faster-whisper, transformers' sequential) read the same weights. No time is measured here.

    python bench/longform.py --speech ../shared/speech --models base tiny.en runs/mini-librispeech/student
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from whisperstill.audio.files import load_audio
from whisperstill.decode.transcriber import load
from whisperstill.evaluate.score import score
from whisperstill.export.ctranslate2 import write_ctranslate2
from whisperstill.files import write_whole
from whisperstill.model.checkpoints import load_checkpoint, write_huggingface

SETS = ("longform-librispeech", "longform-ljspeech")
OURS = {
    "quiet": {"strategy": "quiet"},
    "vad": {"strategy": "vad"},
    "sequential": {"strategy": "sequential"},
    "chunked 30 s": {"strategy": "chunked", "chunk_length": 30.0},
    "chunked 15 s": {"strategy": "chunked", "chunk_length": 15.0},
}
PEERS = ("faster-whisper", "transformers")


def ours(model: str, options: dict[str, object]) -> Callable[[str], str]:
    """Our transcript of a file."""
    transcriber = load(model, device="cpu", dtype="fp32")
    return lambda path: transcriber.transcribe(path, language="en", **options).text


def faster_whisper(model: str, folder: Path) -> Callable[[str], str]:
    """openai/whisper's sequential algorithm as faster-whisper has it, greedy."""
    from faster_whisper import WhisperModel

    write_ctranslate2(load_checkpoint(model), folder, "float32")
    peer = WhisperModel(str(folder), device="cpu", compute_type="float32", cpu_threads=torch.get_num_threads())

    def text(path: str) -> str:
        segments, _ = peer.transcribe(path, language="en", beam_size=1, best_of=5)
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


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["base", "tiny.en"])
    parser.add_argument("--ways", nargs="+", default=[*OURS, *PEERS])
    parser.add_argument("--recordings", nargs="+", help="ids; default: all")
    parser.add_argument("--ours", type=json.loads, default={}, help="more options of transcribe")
    parser.add_argument("--output", type=Path, default=Path("bench/results/longform.json"))
    given = parser.parse_args()
    recordings: list[tuple[str, str, str]] = []  # set, file, reference
    for name in SETS:
        for line in (given.speech / name / "manifest.jsonl").read_text().splitlines():
            one = json.loads(line)
            if not given.recordings or one["id"] in given.recordings:
                recordings.append((name, str(given.speech / name / one["audio"]), one["text"]))
    rows = []
    for model in given.models:
        for way in given.ways:
            with tempfile.TemporaryDirectory() as folder:
                peers = {"faster-whisper": faster_whisper, "transformers": transformers}
                hear = peers[way](model, Path(folder)) if way in peers else ours(model, OURS[way] | given.ours)
                texts = [hear(path) for _, path, _ in recordings]
            row: dict[str, object] = {"model": model, "way": way}
            for name in SETS:
                chosen = [at for at, (known, _, _) in enumerate(recordings) if known == name]
                if chosen:
                    found = score(
                        [recordings[at][2] for at in chosen],
                        [texts[at] for at in chosen],
                        normaliser="english",
                    )
                    edits = found.edits
                    row[name] = {
                        "wer": round(found.wer, 2),
                        "words": found.words,
                        "insertions": edits.insertions,
                        "deletions": edits.deletions,
                        "substitutions": edits.substitutions,
                    }
            rows.append(row)
            print(json.dumps(row), flush=True)
    write_whole(given.output, json.dumps({"command": "bench/longform.py", "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
