"""How fast does a teacher label, compared with transformers' generate?

Hypothesis: a pass that yields encoder states, tokens, label quality and top-k logits takes little longer than one that
yields tokens only, so labelling is several times as fast as with transformers' generate.
Method: the same windows in one process, interleaved rounds after a warm-up; each library with its defaults: float32 for
transformers, the machine's best dtype for ours. transformers gets the same threads and batch size; it computes the
tokens only, or also the statistics that we store: log-sum-exp of the logits at T = 1 and 2, entropy and the top 32.
Limit: the encoder, 87.4 GFLOP per window of whisper-base at the machine's measured matrix speed.

    python bench/label.py --manifest ../shared/speech/librispeech-mini-train/manifest.jsonl
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from harness import (
    argument_parser,
    interleaved,
    median_ratio,
    peak_memory_gib,
    set_threads,
    silence_transformers,
    write_result,
)
from systems import Stopwatch

from whisperstill.cli.allocator import restart_with_allocator
from whisperstill.corpus import load_window_waveform, pack, read_corpus
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.label.label_quality import build_pseudo_label
from whisperstill.label.settings import LabelSettings
from whisperstill.label.store import label_to_row
from whisperstill.label.teacher import label_batch
from whisperstill.label.topk_store import topk_to_row
from whisperstill.model.checkpoints import Checkpoint, load_checkpoint, write_huggingface
from whisperstill.records import Window
from whisperstill.units import MAX_NEW_TOKENS, SAMPLE_RATE

TOP_K = 32
PEERS = {
    "transformers, same statistics": (True, True),
    "transformers, tokens alone": (True, False),
    "transformers, tokens alone, batch 1": (False, False),
}
"""Name -> (batched, with logit statistics)."""
Tokens = list[tuple[int, ...]]


def matrix_gflops() -> float:
    """GFLOP/s of a float32 matrix product with the encoder's shapes, best of 10."""
    a, b = torch.randn(1500, 512), torch.randn(2048, 512)
    best_seconds = float("inf")
    for _ in range(10):
        start_time = time.perf_counter()
        torch.nn.functional.linear(a, b)
        best_seconds = min(best_seconds, time.perf_counter() - start_time)
    return 2 * 1500 * 512 * 2048 / best_seconds / 1e9


def logit_statistics(logits: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Statistics of the logits of one step, as our teacher stores them."""
    logits = logits.float()
    log_sum_exp = logits.logsumexp(-1)
    logprob = logits - log_sum_exp[:, None]
    entropy = -(logprob.exp() * logprob).sum(-1)
    return log_sum_exp, (logits / 2).logsumexp(-1), entropy, *logits.topk(TOP_K)


def label_with_ours(
    teacher: WhisperModel, windows: Sequence[Window], waveforms: torch.Tensor, batch_size: int
) -> Tokens:
    """Label all windows, and build the rows of the store."""
    end_of_text = teacher.vocabulary.end_of_text
    settings = LabelSettings("", (), Path(), top_k=TOP_K, max_new_tokens=MAX_NEW_TOKENS)
    tokens = []
    for start in range(0, len(windows), batch_size):
        batch = windows[start : start + batch_size]
        outputs = label_batch(teacher, settings, waveforms[start : start + batch_size], ["en"] * len(batch))
        for window, output in zip(batch, outputs, strict=True):
            label = build_pseudo_label(
                window, output, teacher.tokenizer, teacher.vocabulary, timestamps=False, shard="0"
            )
            label_to_row(label)
            label_tokens = label.tokens + ((end_of_text,) if label.ended else ())
            topk_to_row(window.id, label_tokens, output.result.token_stats)
            tokens.append(label.tokens)
    return tokens


def load_transformers(checkpoint: Checkpoint, waveforms: torch.Tensor, end: int) -> Callable[[int, bool], Tokens]:
    """transformers' labelling: (batch size, with logit statistics) -> tokens."""
    from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

    silence_transformers()

    with tempfile.TemporaryDirectory() as directory:
        write_huggingface(checkpoint, Path(directory))
        network: Any = WhisperForConditionalGeneration.from_pretrained(directory, attn_implementation="sdpa")
        feature_extractor: Any = WhisperFeatureExtractor.from_pretrained(directory)
    network.eval()

    @torch.inference_mode()
    def label(batch_size: int, with_statistics: bool) -> Tokens:
        tokens = []
        for start in range(0, len(waveforms), batch_size):
            batch = [waveform.numpy() for waveform in waveforms[start : start + batch_size]]
            features = feature_extractor(batch, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features
            extra = {"return_dict_in_generate": True, "output_logits": True} if with_statistics else {}
            output = network.generate(
                features, language="en", task="transcribe", max_new_tokens=MAX_NEW_TOKENS, **extra
            )
            if with_statistics:
                for logits in output.logits:  # one step, all rows
                    logit_statistics(logits)
                output = output.sequences
            tokens += [tuple(token for token in row if token < end) for row in output.tolist()]
        return tokens

    return label


def main() -> None:
    parser = argument_parser(__doc__, "label.json")
    parser.add_argument("--teacher", default="base")
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--windows", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only-ours", action="store_true", help="measure our peak memory without transformers")
    options = parser.parse_args()
    set_threads(options.threads)

    windows = pack(read_corpus(options.manifest).utterances)[: options.windows]
    audio_seconds = sum(window.duration for window in windows)
    waveforms = torch.stack([torch.from_numpy(load_window_waveform(window)) for window in windows])
    checkpoint = load_checkpoint(options.teacher)
    teacher, encoder = WhisperModel(checkpoint), Stopwatch()
    teacher.encode = encoder.wrap(teacher.encode)  # type: ignore[method-assign]

    systems: dict[str, Callable[[], Tokens]] = {
        "ours": lambda: label_with_ours(teacher, windows, waveforms, options.batch_size)
    }
    if not options.only_ours:
        label = load_transformers(checkpoint, waveforms, teacher.vocabulary.end_of_text)
        for name, (batched, with_statistics) in PEERS.items():
            size = options.batch_size if batched else 1
            systems[name] = lambda size=size, with_statistics=with_statistics: label(size, with_statistics)  # type: ignore[misc]
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    tokens: dict[str, Tokens] = {}
    encoder_seconds = 0.0
    for number, name in interleaved(list(systems), options.rounds):
        encoder.seconds = 0.0
        start_time = time.perf_counter()
        tokens[name] = systems[name]()
        if number:
            seconds[name].append(time.perf_counter() - start_time)
            encoder_seconds += encoder.seconds
    peer_tokens = tokens.get("transformers, tokens alone")
    result = {
        "teacher": options.teacher,
        "windows": len(windows),
        "hours": audio_seconds / 3600,
        "dtype": str(teacher.network.dtype),
        "matrix_gflops": round(matrix_gflops(), 1),
        "times_real_time": {
            name: round(audio_seconds / statistics.median(values), 2) for name, values in seconds.items()
        },
        "seconds": {name: [round(value, 2) for value in values] for name, values in seconds.items()},
        "ratio_to_ours": {name: round(median_ratio(values, seconds["ours"]), 2) for name, values in seconds.items()},
        "encoder_share": round(encoder_seconds / sum(seconds["ours"]), 3),
        "identical_windows": peer_tokens
        and sum(row == peer_row for row, peer_row in zip(tokens["ours"], peer_tokens, strict=True)),
        "peak_memory_gib": round(peak_memory_gib(), 2),
    }
    print(json.dumps(result, indent=1))
    write_result(options.output, "labelling speed", result)


if __name__ == "__main__":
    restart_with_allocator()
    main()
