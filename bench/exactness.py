"""Does speculative decoding give the same tokens as greedy decoding?

Hypothesis: with any draft, any batch size, with or without timestamps, float32 output is identical; deterministic
blocks are bit-identical in float32, bfloat16 and int8; otherwise bfloat16 and int8 differ only at near ties.
Method: the encoder states of a label store (real speech) are decoded greedily, then speculatively with the student at
batch 16, 4 and 1, and with drafts that are random, always wrong, always right, or end at once; every other window with
timestamps. Tokens are compared one by one. A control corrupts one slot of the KV cache and must be detected.
Limit: no differing token.

    python bench/exactness.py --labels runs/mini-librispeech/labels --student runs/mini-librispeech/student
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from harness import argument_parser, set_threads, write_result
from torch import Tensor

from whisperstill.decode.generate.batch_scheduler import BatchScheduler, DecodeRequest
from whisperstill.decode.generate.draft_length import DraftLengthController
from whisperstill.decode.generate.draft_model import DecodeState, DraftModel
from whisperstill.decode.generate.generator import Generator
from whisperstill.decode.generate.speculative_stats import SpeculativeStats
from whisperstill.decode.generate.token_stats import DecodingResult
from whisperstill.decode.whisper_model import DETERMINISTIC_BLOCK_SIZE, WhisperModel
from whisperstill.label.store import open_labels
from whisperstill.model.checkpoints import Checkpoint, load_checkpoint
from whisperstill.model.kv_cache import StaticKVCache

MakeDraft = Callable[[int, int], DraftModel]


class ScriptedDraft(DraftModel):
    """Draft that proposes a known text for each row, after a change."""

    def __init__(self, texts: dict[bytes, list[int]], change: Callable[[int], int]) -> None:
        self.texts, self.change = texts, change
        self.rows: dict[int, tuple[list[int], int]] = {}

    def prefill(self, rows: list[int], encoder_states: Tensor, prompt_tokens: Tensor) -> None:
        """Windows are recognised by their first encoder state."""
        for row, state in zip(rows, encoder_states, strict=True):
            self.rows[row] = (self.texts[_window_key(state)], prompt_tokens.shape[1])

    def propose(self, state: DecodeState, num_tokens: int) -> Tensor:
        """The next tokens of each row's text, changed."""
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
    """One way of decoding, compared with greedy decoding."""

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
        results |= dict(zip(chosen, Generator(scheduler).generate(jobs), strict=True))
        counts += scheduler.speculative_stats
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
        tokens, wanted = (*result.tokens, result.ended), (*reference.tokens, reference.ended)
        comparison.tokens += len(wanted)
        if tokens != wanted:
            comparison.differing_windows += 1
            positions = [index for index, (a, b) in enumerate(zip(tokens, wanted, strict=False)) if a != b]
            comparison.differing_tokens += len(positions) + abs(len(tokens) - len(wanted))
            first = min([*positions, len(tokens) - 1, len(wanted) - 1])
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
        torch.equal(getattr(one.token_stats, name), getattr(other.token_stats, name))
        for one, other in zip(actual, expected, strict=True)
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

    def timed(name: str, expected: list[DecodingResult], part: int, size: int, **options: Any) -> None:
        some = states[:: max(1, part)]
        start_time = time.perf_counter()
        actual, counts = decode(model, some, size, **options)
        results.append(compare(name, actual, expected, counts, time.perf_counter() - start_time))

    start_time = time.perf_counter()
    greedy, counts = decode(model, states, 16)
    print(f"greedy: {counts.tokens} tokens, {time.perf_counter() - start_time:.0f} s", flush=True)
    for size, part in ((16, 1), (4, 8), (1, 24)):
        expected = greedy if part == 1 else decode(model, states[::part], 16)[0]
        timed(f"float32, student, batch {size}", expected, part, size, student=True, blocks=(1, 4, 8, 16))
    part = 24
    some = states[::part]
    expected = decode(model, some, 16)[0]
    end = model.vocabulary.end_of_text
    texts = {_window_key(state): [*one.tokens, end] for state, one in zip(some, expected, strict=True)}
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
        timed(f"float32, {name}, batch 16", expected, part, 16, **draft)
    sampled = decode(model, some, 16, temperature=0.7)[0]
    timed("float32, student, temperature 0.7, batch 4", sampled, part, 4, student=True, blocks=(4,), temperature=0.7)

    few = states[:: 2 * part]
    narrow: dict[str, dict[str, Any]] = {
        "float32": {"dtype": torch.float32},
        "bfloat16": {"dtype": torch.bfloat16},
        "int8": {"int8": True},
    }
    for name, kind in narrow.items():
        rounded = WhisperModel(teacher, assistant=student, **kind)
        exact: dict[str, Any] = {"blocks": (DETERMINISTIC_BLOCK_SIZE,), "exact": True, "top": 2}
        plain, _ = decode(rounded, few, 4, **exact)
        start_time = time.perf_counter()
        actual, counts = decode(rounded, few, 4, student=True, **exact)
        comparison = compare(f"deterministic, {name}, batch 4", actual, plain, counts, time.perf_counter() - start_time)
        comparison.bits_equal = same_bits(actual, plain)
        results.append(comparison)
        if name != "float32":
            alone, _ = decode(rounded, few, 1, top=2)
            actual, counts = decode(rounded, few, 4, student=True, blocks=(4,))
            results.append(compare(f"free, {name}, batch 4 against greedy alone", actual, alone, counts, 0.0))
    results.append(control(model, few))
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
