"""Which student is the best draft, and does a short list of tokens help it?

Hypothesis: what makes a draft good is that its next token is the teacher's, not that its transcripts are; a student
trained on total variation, which is the share of refused tokens, and along its own words, is accepted more often. Its
output layer may leave out three quarters of the vocabulary at hardly any cost in accepted tokens.
Method: whisper-base verifies each student's proposals on the same clips, with the whole vocabulary and with the short
list in turns; the texts have to be the teacher's own to the last token.
Limit: the longest block; a draft that takes no time.

    python bench/drafts.py --speech ../shared/speech --drafts runs/mini-librispeech/student build/draft-tv
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from whisperstill.atomic_io import atomic_write
from whisperstill.audio.audio_files import load_audio
from whisperstill.audio.mel import pad_or_trim
from whisperstill.cli.allocator import restart_with_allocator
from whisperstill.corpus import read_corpus
from whisperstill.decode.generate.speculative_stats import SpeculativeStats
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.model.checkpoints import Checkpoint, load_checkpoint

SETS = ("librispeech-mini-test", "librispeech-test-other-100", "ljspeech-ood")
LISTS = ("whole vocabulary", "short list")


def drafts_of(name: str) -> dict[str, Checkpoint]:
    """The same student without and with its short list."""
    checkpoint = load_checkpoint(name)
    without = {key: value for key, value in checkpoint.metadata.items() if key != "frequent_tokens"}
    found = {LISTS[0]: replace(checkpoint, metadata=without)}
    if len(without) < len(checkpoint.metadata):
        found[LISTS[1]] = checkpoint
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--model", default="base")
    parser.add_argument("--drafts", nargs="+", required=True)
    parser.add_argument("--clips", type=int, default=24, help="of each set")
    parser.add_argument("--output", type=Path, default=Path("bench/results/drafts.json"))
    given = parser.parse_args()

    teacher = load_checkpoint(given.model)
    plain = WhisperModel(teacher)
    pairs = {
        (name, listed): WhisperModel(teacher, assistant=draft)
        for name in given.drafts
        for listed, draft in drafts_of(name).items()
    }
    result: dict[str, Any] = {"question": "which student is the best draft", "model": given.model, "rows": []}
    for one in SETS:
        utterances = read_corpus(given.speech / one / "manifest.jsonl").utterances
        utterances = utterances[:: max(1, len(utterances) // given.clips)][: given.clips]
        seconds = dict.fromkeys((None, *pairs), 0.0)
        for pair in pairs.values():
            pair.speculative_stats = SpeculativeStats()
        for turn, utterance in enumerate(utterances):
            waveform = load_audio(utterance.audio.path, utterance.audio.start, utterance.audio.duration)
            states = plain.encode(torch.from_numpy(pad_or_trim(waveform))[None])
            if not turn:  # warm-up
                for recogniser in (plain, *pairs.values()):
                    recogniser.decode(states, ["en"])
                    recogniser.speculative_stats = SpeculativeStats()
            begun = time.perf_counter()
            [expected] = plain.decode(states, ["en"])
            seconds[None] += time.perf_counter() - begun
            for key, recogniser in pairs.items():
                begun = time.perf_counter()
                [found] = recogniser.decode(states, ["en"])
                seconds[key] += time.perf_counter() - begun
                if found.result.tokens != expected.result.tokens:
                    raise SystemExit(f"{utterance.id}: {key} changed the text")
        for (name, listed), recogniser in pairs.items():
            counts = recogniser.speculative_stats
            row = {
                "dataset": one,
                "draft": name,
                "list": listed,
                "acceptance_rate": round(counts.acceptance_rate, 3),
                "tokens_per_verification": round(counts.tokens_per_verification, 2),
                "decoding_speed": round(seconds[None] / seconds[name, listed], 2),
            }
            result["rows"].append(row)
            print(json.dumps(row), flush=True)
        atomic_write(given.output, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    restart_with_allocator()
    main()
