"""How fast does a teacher label, against transformers' generate?

Hypothesis: one visit that gives states, tokens, evidence and top-k costs little more than the visit itself, so
labelling is several times faster than doing the same with transformers' generate.
Method: the same windows, one process, the two in turn (A B A B ...), first turn of each not counted; each at what it
does unasked: float32 for transformers, the best type of the machine for ours. transformers is given the same number of
threads and batches of the same size; it gives the tokens alone, or does the same: keeps its logits and takes
log-sum-exps at T = 1 and 2, entropy and the top 32 from them.
Limit: the encoder. 87.4 GFLOP a window for whisper-base at the machine's measured matrix speed.

    python bench/label.py --manifest ../shared/speech/librispeech-mini-train/manifest.jsonl
"""

import argparse
import json
import platform
import resource
import statistics
import time
from pathlib import Path

import torch

from whisperstill.cli.allocator import restart_with_allocator
from whisperstill.corpus import load_window_waveform, pack, read_corpus
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.label.label_quality import build_pseudo_label
from whisperstill.label.store_schema import label_to_row, topk_to_row
from whisperstill.label.teacher import Teacher
from whisperstill.model.checkpoints import load_checkpoint, write_huggingface


def matrix_speed() -> float:
    """GFLOP/s of a matrix product of the encoder's shape in float32, best of 10."""
    a, b = torch.randn(1500, 512), torch.randn(2048, 512)
    best = 1e9
    for _ in range(10):
        begun = time.perf_counter()
        torch.nn.functional.linear(a, b)
        best = min(best, time.perf_counter() - begun)
    return 2 * 1500 * 512 * 2048 / best / 1e9


PEERS = (
    ("transformers, the same", True, True),
    ("transformers, tokens alone", True, False),
    ("transformers, tokens alone, batch 1", False, False),
)
"""Name, whether batched, whether evidence and top-k are taken."""


def token_stats(logits: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """What our teacher notes of a step's distribution."""
    logits = logits.float()
    lse = logits.logsumexp(-1)
    logprob = logits - lse[:, None]
    return lse, (logits / 2).logsumexp(-1), -(logprob.exp() * logprob).sum(-1), *logits.topk(32)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teacher", default="base")
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--windows", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only-ours", action="store_true", help="for the peak of memory")
    parser.add_argument("--output", type=Path, default=Path("bench/results/label.json"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    windows = pack(read_corpus(options.manifest).utterances)[: options.windows]
    seconds = sum(window.duration for window in windows)
    waveforms = torch.stack([torch.from_numpy(load_window_waveform(window)) for window in windows])
    checkpoint = load_checkpoint(options.teacher)
    model = WhisperModel(checkpoint)
    teacher = Teacher(model)
    end = model.vocabulary.end_of_text
    shares = {"encoder": 0.0}
    encode = model.encode

    def timed(batch: torch.Tensor) -> torch.Tensor:
        begun = time.perf_counter()
        states = encode(batch)
        shares["encoder"] += time.perf_counter() - begun
        return states

    model.encode = timed  # type: ignore[method-assign]

    def ours(top: int) -> list[tuple[int, ...]]:
        tokens = []
        for at in range(0, len(windows), options.batch_size):
            part = windows[at : at + options.batch_size]
            outputs = teacher.label_batch(
                waveforms[at : at + options.batch_size], ["en"] * len(part), top_k=top, max_new_tokens=224
            )
            for window, output in zip(part, outputs, strict=True):
                found = build_pseudo_label(
                    window, output, model.tokenizer, model.vocabulary, timestamps=False, shard="0"
                )
                if top > 1:
                    label_to_row(found)
                    topk_to_row(window.id, found.tokens + ((end,) if found.ended else ()), output.result.token_stats)
                tokens.append(found.tokens)
        return tokens

    times: dict[str, list[float]] = {"ours": []}
    agree = None
    if not options.only_ours:
        import tempfile

        from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration, logging

        logging.set_verbosity_error()

        with tempfile.TemporaryDirectory() as directory:
            write_huggingface(checkpoint, Path(directory))
            peer = WhisperForConditionalGeneration.from_pretrained(directory, attn_implementation="sdpa").eval()
            features = WhisperFeatureExtractor.from_pretrained(directory)
        times |= {name: [] for name, _, _ in PEERS}

        @torch.inference_mode()
        def theirs(batch_size: int, evidence: bool) -> list[tuple[int, ...]]:
            tokens = []
            for at in range(0, len(windows), batch_size):
                inputs = features(
                    [w.numpy() for w in waveforms[at : at + batch_size]], sampling_rate=16000, return_tensors="pt"
                ).input_features
                asked = {"return_dict_in_generate": True, "output_logits": True} if evidence else {}
                output = peer.generate(inputs, language="en", task="transcribe", max_new_tokens=224, **asked)
                if evidence:
                    for logits in output.logits:  # one step, all rows
                        token_stats(logits)
                    output = output.sequences
                for row in output.tolist():
                    tokens.append(tuple(token for token in row if token < end))
            return tokens

    for turn in range(options.rounds + 1):
        if turn == 1:
            shares["encoder"] = 0.0
        begun = time.perf_counter()
        mine = ours(32)
        took = {"ours": time.perf_counter() - begun}
        if not options.only_ours:
            for name, together, evidence in PEERS:
                begun = time.perf_counter()
                other = theirs(options.batch_size if together else 1, evidence)
                took[name] = time.perf_counter() - begun
            agree = sum(a == b for a, b in zip(mine, other, strict=True))
        if turn:
            for name, value in took.items():
                times[name].append(value)
    result = {
        "question": "labelling speed",
        "teacher": options.teacher,
        "windows": len(windows),
        "hours": seconds / 3600,
        "threads": options.threads,
        "machine": platform.machine(),
        "dtype": str(teacher.network.dtype),
        "matrix_gflops": round(matrix_speed(), 1),
        "times_real_time": {name: round(seconds / statistics.median(values), 2) for name, values in times.items()},
        "seconds": {name: [round(value, 2) for value in values] for name, values in times.items()},
        "ratio_to_ours": {
            name: round(statistics.median(b / a for a, b in zip(times["ours"], values, strict=True)), 2)
            for name, values in times.items()
        },
        "encoder_share": round(shares["encoder"] / sum(times["ours"]), 3),
        "identical_windows": agree,
        "peak_memory_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }
    print(json.dumps(result, indent=1))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    restart_with_allocator()
    main()
