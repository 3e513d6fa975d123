"""Does speculative decoding give the same tokens as greedy decoding?

Hypothesis: with any draft and batch size, with or without timestamps, float32 output is identical; deterministic
blocks are bit-identical in float32, bfloat16 and int8; otherwise bfloat16 and int8 differ only at near ties.
Method: the encoder states of a label store (real speech) are decoded greedily, then speculatively with the student at
batch size 16, 4 and 1, and with synthetic drafts: random tokens, wrong tokens only, the correct tokens (oracle), or end
of text only. Every other window has timestamps. Tokens are compared one by one. A control corrupts one slot of the KV
cache and must be detected.
Limit: no differing token.

    python bench/exactness.py --labels runs/mini-librispeech/labels --student runs/mini-librispeech/student
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, field
from operator import add
from pathlib import Path
from typing import Any

import torch
from harness import argument_parser, set_threads, write_result
from torch import Tensor

from whisperstill.decode.generate.batch_scheduler import BatchScheduler, DecodeRequest
from whisperstill.decode.generate.draft_length import DraftLengthController
from whisperstill.decode.generate.draft_model import DecodeState, DraftModel
from whisperstill.decode.generate.speculative_stats import SpeculativeStats
from whisperstill.decode.generate.token_stats import DecodingResult
from whisperstill.decode.whisper_model import DETERMINISTIC_BLOCK_SIZE, WhisperModel
from whisperstill.label.store import open_labels
from whisperstill.model.checkpoints import Checkpoint, load_checkpoint
from whisperstill.model.kv_cache import StaticKVCache

MakeDraft = Callable[[int, int], DraftModel]


class ScriptedDraft(DraftModel):
    """Draft that proposes a known text for each row, with each token replaced by `change`."""

    def __init__(self, texts: dict[bytes, list[int]], change: Callable[[int], int]) -> None:
        self.texts, self.change = texts, change
        self.rows: dict[int, tuple[list[int], int]] = {}

    def prefill(self, rows: list[int], encoder_states: Tensor, prompt_tokens: Tensor) -> None:
        """Look up the text of each row by the first encoder states of its window."""
        for row, state in zip(rows, encoder_states, strict=True):
            self.rows[row] = (self.texts[_window_key(state)], prompt_tokens.shape[1])

    def propose(self, state: DecodeState, num_tokens: int) -> Tensor:
        """The next tokens of each row's text, replaced by `change`."""
        proposals = []
        for row, length in enumerate(state.length.tolist()):
            text, prompt = self.rows.get(row, ([], 0))
            rest = text[max(0, length - prompt) :][:num_tokens]
            proposals.append([self.change(token) for token in rest] + [0] * (num_tokens - len(rest)))
        return torch.tensor(proposals)

    def select_rows(self, order: Tensor) -> None:
        """Reorder the rows."""
        self.rows = {new: self.rows[old] for new, old in enumerate(order.tolist())}


@dataclass
class Comparison:
    """Differences of one decoding mode from greedy decoding."""

    name: str
    windows: int = 0
    tokens: int = 0
    differing_tokens: int = 0
    differing_windows: int = 0
    bits_equal: bool | None = None
    margins: list[float] = field(default_factory=list)
    """Difference of the two largest logits at the first differing token of each window."""
    acceptance_rate: float = 0.0
    tokens_per_verification: float = 0.0
    seconds: float = 0.0


def _window_key(state: Tensor) -> bytes:
    return state[:4].float().numpy().tobytes()


def decode(
    model: WhisperModel,
    states: Sequence[Tensor],
    size: int,
    *,
    make: MakeDraft | None = None,
    student: bool = False,
    blocks: tuple[int, ...] = (1,),
    exact: bool = False,
    temperature: float = 0.0,
    top: int = 0,
) -> tuple[list[DecodingResult], SpeculativeStats]:
    """Decode all windows, every other one with timestamps; drafts come from `make` or the `student`."""
    results: dict[int, DecodingResult] = {}
    counts = SpeculativeStats()
    for timestamps in (False, True):
        rules = model.make_logit_filter(timestamps)
        start = model.vocabulary.sot_sequence("en", "transcribe", timestamps)
        chosen = range(int(timestamps), len(states), 2)
        if not chosen:
            continue
        drafts = model.make_draft_factory(rules) if student else make
        controller, batch_size = DraftLengthController(blocks), min(size, len(chosen))
        scheduler = BatchScheduler(model.network, rules, batch_size, top, drafts, controller, exact)
        jobs = [
            DecodeRequest(states[row].to(model.network.dtype), start, temperature=temperature, seed=row)
            for row in chosen
        ]
        results |= dict(zip(chosen, scheduler.generate(jobs), strict=True))
        counts = SpeculativeStats(*map(add, astuple(counts), astuple(scheduler.speculative_stats)))
    return [results[row] for row in range(len(states))], counts


def compare(
    name: str, actual: list[DecodingResult], expected: list[DecodingResult], counts: SpeculativeStats, seconds: float
) -> Comparison:
    """Count differing tokens and windows."""
    comparison = Comparison(
        name, len(actual), acceptance_rate=round(counts.acceptance_rate, 3), seconds=round(seconds, 1)
    )
    comparison.tokens_per_verification = round(counts.tokens_per_verification, 2)
    for result, reference in zip(actual, expected, strict=True):
        tokens, expected_tokens = (*result.tokens, result.ended), (*reference.tokens, reference.ended)
        comparison.tokens += len(expected_tokens)
        if tokens != expected_tokens:
            comparison.differing_windows += 1
            positions = [index for index, (a, b) in enumerate(zip(tokens, expected_tokens, strict=False)) if a != b]
            comparison.differing_tokens += len(positions) + abs(len(tokens) - len(expected_tokens))
            first = min([*positions, len(tokens) - 1, len(expected_tokens) - 1])
            if reference.token_stats.top_logits.shape[1] > 1:
                best, second = reference.token_stats.top_logits[min(first, len(reference.token_stats.top_logits) - 1)][
                    :2
                ]
                comparison.margins.append(round(float(best - second), 4))
    print(json.dumps(vars(comparison)), flush=True)
    return comparison


def same_bits(actual: list[DecodingResult], expected: list[DecodingResult]) -> bool:
    """Whether hidden states (which give the logits) and log-probabilities are bit-identical."""
    names = ("hidden", "filtered_logprob", "top_logits")
    return all(
        torch.equal(getattr(result.token_stats, name), getattr(reference.token_stats, name))
        for result, reference in zip(actual, expected, strict=True)
        for name in names
    )


def main() -> None:
    parser = argument_parser(__doc__, "exactness.json")
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--teacher", default="base")
    parser.add_argument("--student", required=True)
    parser.add_argument("--windows", type=int, default=100_000)
    options = parser.parse_args()
    set_threads(options.threads)

    teacher, student = load_checkpoint(options.teacher), load_checkpoint(options.student)
    store = open_labels(options.labels)
    states = []
    for label in store.read_labels():
        states.append(store.read_encoder_states(label).clone())
        if len(states) == options.windows:
            break
    results = run(teacher, student, states)
    content = {"teacher": options.teacher, "windows": len(states), "results": [vars(result) for result in results]}
    write_result(options.output, "speculative against greedy decoding", content)
    checked = [result for result in results if result.name.startswith("float32")]
    differing = sum(result.differing_tokens for result in checked)
    print(f"{sum(result.tokens for result in checked)} tokens, {differing} differ")


def run(teacher: Checkpoint, student: Checkpoint, states: list[Tensor]) -> list[Comparison]:
    """All comparisons."""
    model = WhisperModel(teacher, dtype=torch.float32, assistant=student)
    results = []

    def timed(name: str, expected: list[DecodingResult], stride: int, size: int, **options: Any) -> None:
        subset = states[::stride]
        start_time = time.perf_counter()
        actual, counts = decode(model, subset, size, **options)
        results.append(compare(name, actual, expected, counts, time.perf_counter() - start_time))

    start_time = time.perf_counter()
    greedy, counts = decode(model, states, 16)
    print(f"greedy: {counts.tokens} tokens, {time.perf_counter() - start_time:.0f} s", flush=True)
    for size, stride in ((16, 1), (4, 8), (1, 24)):
        expected = greedy if stride == 1 else decode(model, states[::stride], 16)[0]
        timed(f"float32, student, batch {size}", expected, stride, size, student=True, blocks=(1, 4, 8, 16))
    stride = 24
    subset = states[::stride]
    expected = decode(model, subset, 16)[0]
    end = model.vocabulary.end_of_text
    texts = {_window_key(state): [*result.tokens, end] for state, result in zip(subset, expected, strict=True)}
    generator = torch.Generator().manual_seed(0)
    changes: dict[str, Callable[[int], int]] = {
        "always right": lambda token: token,
        "always wrong": lambda token: (token + 1) % 50000,
        "random": lambda token: int(torch.randint(0, 50000, (), generator=generator)),
        "ends early": lambda token: end,
    }
    for name, change in changes.items():
        draft: dict[str, Any] = {
            "make": lambda size, capacity, change=change: ScriptedDraft(texts, change),
            "blocks": (8,),
        }
        timed(f"float32, {name}, batch 16", expected, stride, 16, **draft)
    sampled = decode(model, subset, 16, temperature=0.7)[0]
    timed("float32, student, temperature 0.7, batch 4", sampled, stride, 4, student=True, blocks=(4,), temperature=0.7)

    few_states = states[:: 2 * stride]
    precisions: dict[str, dict[str, Any]] = {
        "float32": {"dtype": torch.float32},
        "bfloat16": {"dtype": torch.bfloat16},
        "int8": {"int8": True},
    }
    for name, precision in precisions.items():
        rounded = WhisperModel(teacher, assistant=student, **precision)
        exact: dict[str, Any] = {"blocks": (DETERMINISTIC_BLOCK_SIZE,), "exact": True, "top": 2}
        plain, _ = decode(rounded, few_states, 4, **exact)
        start_time = time.perf_counter()
        actual, counts = decode(rounded, few_states, 4, student=True, **exact)
        comparison = compare(f"deterministic, {name}, batch 4", actual, plain, counts, time.perf_counter() - start_time)
        comparison.bits_equal = same_bits(actual, plain)
        results.append(comparison)
        if name != "float32":
            alone, _ = decode(rounded, few_states, 1, top=2)
            actual, counts = decode(rounded, few_states, 4, student=True, blocks=(4,))
            results.append(compare(f"free, {name}, batch 4 against greedy alone", actual, alone, counts, 0.0))
    results.append(control(model, few_states))
    return results


def control(model: WhisperModel, states: list[Tensor]) -> Comparison:
    """Corrupt one slot of one layer at one position; the comparison must detect it."""
    expected, _ = decode(model, states, 4)
    extend = StaticKVCache.extend

    def corrupted_extend(self: StaticKVCache, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = extend(self, layer, key, value)
        if layer == 0 and self.num_rows > 1 and keys.shape[2] > 6:
            values[1, :, 5] += 3.0
        return keys, values

    StaticKVCache.extend = corrupted_extend  # type: ignore[method-assign]
    try:
        actual, counts = decode(model, states, 4, student=True, blocks=(4,))
    finally:
        StaticKVCache.extend = extend  # type: ignore[method-assign]
    return compare("control, a corrupted slot", actual, expected, counts, 0.0)


if __name__ == "__main__":
    main()
