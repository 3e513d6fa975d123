"""Which student is the best draft model, and does a reduced draft vocabulary help?

Hypothesis: acceptance depends on how well a draft model predicts the teacher's next token, less on its own WER.
Training with the total variation loss (the probability that a token is rejected) and on-policy raises the acceptance
rate. An output layer without three quarters of the vocabulary hardly lowers it.
Method: whisper-base verifies each student's tokens on the same clips, with the full and with the reduced vocabulary,
interleaved clip by clip; the text must be identical to the teacher's.
Limit: the maximum draft length, and a draft model that takes no time.

    python bench/drafts.py --speech ../shared/speech --drafts runs/mini-librispeech/student build/draft-tv
"""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from harness import argument_parser, set_threads, write_result

from whisperstill.audio.mel import pad_or_trim
from whisperstill.cli.allocator import restart_with_allocator
from whisperstill.corpus import load_utterance_waveform, read_corpus
from whisperstill.decode.generate.speculative_stats import SpeculativeStats
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.model.checkpoints import Checkpoint, load_checkpoint

DATASETS = ("librispeech-mini-test", "librispeech-test-other-100", "ljspeech-ood")
FULL, REDUCED = "full vocabulary", "reduced vocabulary"


def draft_variants(name: str) -> dict[str, Checkpoint]:
    """The student with the full vocabulary and, if it has a list of frequent tokens, with the reduced one."""
    checkpoint = load_checkpoint(name)
    metadata = {key: value for key, value in checkpoint.metadata.items() if key != "frequent_tokens"}
    variants = {FULL: replace(checkpoint, metadata=metadata)}
    return variants if len(metadata) == len(checkpoint.metadata) else {**variants, REDUCED: checkpoint}


def main() -> None:
    parser = argument_parser(__doc__, "drafts.json")
    parser.add_argument("--speech", type=Path, required=True, help="directory of the datasets")
    parser.add_argument("--model", default="base", help="teacher")
    parser.add_argument("--drafts", nargs="+", required=True)
    parser.add_argument("--clips", type=int, default=24, help="clips per dataset")
    options = parser.parse_args()
    set_threads(options.threads)

    teacher = load_checkpoint(options.model)
    alone = WhisperModel(teacher)
    drafted = {
        (name, vocabulary): WhisperModel(teacher, assistant=draft)
        for name in options.drafts
        for vocabulary, draft in draft_variants(name).items()
    }
    schedulers = {
        model: model.make_scheduler(1, model.make_logit_filter(timestamps=False)) for model in drafted.values()
    }
    rows: list[dict[str, Any]] = []
    for dataset in DATASETS:
        utterances = read_corpus(options.speech / dataset / "manifest.jsonl").utterances
        utterances = utterances[:: max(1, len(utterances) // options.clips)][: options.clips]
        alone_seconds, seconds = 0.0, dict.fromkeys(drafted, 0.0)
        for turn, utterance in enumerate(utterances):
            states = alone.encode(torch.from_numpy(pad_or_trim(load_utterance_waveform(utterance)))[None])
            if not turn:  # warm-up
                alone.decode(states, ["en"])
                for model, scheduler in schedulers.items():
                    scheduler.generate(model.make_requests(states, ["en"]))
                    scheduler.speculative_stats = SpeculativeStats()
            start_time = time.perf_counter()
            [expected] = alone.decode(states, ["en"])
            alone_seconds += time.perf_counter() - start_time
            for key, model in drafted.items():
                start_time = time.perf_counter()
                [result] = schedulers[model].generate(model.make_requests(states, ["en"]))
                seconds[key] += time.perf_counter() - start_time
                if result.tokens != expected.result.tokens:
                    raise SystemExit(f"{utterance.id}: {key} changed the text")
        for (name, vocabulary), model in drafted.items():
            stats = schedulers[model].speculative_stats
            row = {
                "dataset": dataset,
                "draft": name,
                "list": vocabulary,
                "acceptance_rate": round(stats.acceptance_rate, 3),
                "tokens_per_verification": round(stats.tokens_per_verification, 2),
                "decoding_speed": round(alone_seconds / seconds[name, vocabulary], 2),
            }
            rows.append(row)
            print(json.dumps(row), flush=True)
        write_result(options.output, "which student is the best draft", {"model": options.model, "rows": rows})


if __name__ == "__main__":
    restart_with_allocator()
    main()
