"""What does it cost to hear no more of a window than holds sound?

Hypothesis: behind a short clip most of Whisper's window is digital silence; that its positions are remembered instead
of computed changes hardly a word, and saves their share of the encoder.
Method: every clip is encoded whole and at its true length, one after the other in turns, and both are decoded greedily;
word error rates with the same normaliser, texts that differ, and the encoder's time. Windows in which nobody speaks are
computed once per level of loudness, within the times.
Limit: the share of the positions that hold sound, and the second of silence behind it that is computed, too.

    python bench/true_length.py --speech ../shared/speech
"""

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import torch

from whisperstill.atomic_io import atomic_write
from whisperstill.audio.audio_files import load_audio
from whisperstill.audio.mel import pad_or_trim
from whisperstill.cli.allocator import restart_with_allocator
from whisperstill.corpus import read_corpus
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.evaluate.score import score
from whisperstill.model.checkpoints import load_checkpoint

SETS = ("librispeech-mini-test", "librispeech-test-other-100", "ljspeech-ood", "asterisk-en-prompts")
WAYS = ("padded", "trimmed")


def row_of(name: str, speech: Path, hearers: dict[str, WhisperModel], limit: int) -> dict[str, Any]:
    """One set."""
    utterances = read_corpus(speech / name / "manifest.jsonl").utterances
    utterances = utterances[:: -(-len(utterances) // limit)]
    texts: dict[str, list[str]] = {way: [] for way in WAYS}
    seconds = dict.fromkeys(WAYS, 0.0)
    for turn, utterance in enumerate(utterances):
        waveform = load_audio(utterance.audio.path, utterance.audio.start, utterance.audio.duration)
        window = torch.from_numpy(pad_or_trim(waveform))[None]
        for way in WAYS if turn % 2 else WAYS[::-1]:
            begun = time.perf_counter()
            states = hearers[way].encode(window)
            seconds[way] += time.perf_counter() - begun
            texts[way].append(hearers[way].decode(states, ["en"])[0].text)
    references = [utterance.text or "" for utterance in utterances]
    scores = {way: score(references, texts[way], normalizer="english") for way in WAYS}
    duration = sum(utterance.audio.duration for utterance in utterances) / len(utterances)
    return {
        "dataset": name,
        "clips": len(utterances),
        "mean_seconds": round(duration, 1),
        "wer": {way: round(found.wer, 2) for way, found in scores.items()},
        "texts_that_differ": sum(a != b for a, b in zip(*texts.values(), strict=True)),
        "encoder_speed": round(seconds["padded"] / seconds["trimmed"], 2),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--model", default="base")
    parser.add_argument("--limit", type=int, default=120, help="most clips of a set")
    parser.add_argument("--output", type=Path, default=Path("bench/results/true-length.json"))
    given = parser.parse_args()
    checkpoint = load_checkpoint(given.model)
    hearers = {way: WhisperModel(checkpoint, trim_padding=way == "trimmed") for way in WAYS}
    for hearer in hearers.values():  # warm-up
        hearer.encode(pad_or_trim(torch.randn(1, 32_000)))
    result: dict[str, Any] = {"question": "what does it cost to hear no more than holds sound", "model": given.model}
    result |= {"dtype": str(hearers["padded"].network.dtype), "threads": torch.get_num_threads()}
    result |= {"machine": platform.processor() or platform.machine(), "torch": torch.__version__, "rows": []}
    for name in SETS:
        result["rows"].append(row_of(name, given.speech, hearers, given.limit))
        print(json.dumps(result["rows"][-1]), flush=True)
        atomic_write(given.output, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    restart_with_allocator()
    main()
