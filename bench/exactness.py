"""Is what is decoded speculatively what is decoded greedily, to the last token?

Hypothesis: whoever proposes, in whatever batch, with or without timestamps, float32 output is equal; exact blocks are
equal to the last bit in float32, bfloat16 and int8; free bfloat16 and int8 differ only where two logits are nearly
equal.

Method: the encoder states of a label store (real speech, read once by the teacher's encoder) are decoded greedily, then
speculatively with the student at batch 16, 4 and 1, and with drafts that are random, always wrong, always right, or end
at once; every other window with timestamps. Tokens are compared one by one. A control spoils one slot and must be
noticed.

    python bench/exactness.py --labels runs/mini-librispeech/labels --student runs/mini-librispeech/student
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from whisperstill.atomic_io import atomic_write
from whisperstill.decode.generate.batch_scheduler import BatchScheduler, DecodeRequest
from whisperstill.decode.generate.draft_length import DraftLengthController
from whisperstill.decode.generate.draft_model import DecodeState, DraftModel, NullDraft
from whisperstill.decode.generate.generator import Generator
from whisperstill.decode.generate.speculative_stats import SpeculativeStats
from whisperstill.decode.generate.token_stats import DecodingResult
from whisperstill.decode.whisper_model import DETERMINISTIC_BLOCK_SIZE, WhisperModel
from whisperstill.label.store import open_labels
from whisperstill.model.checkpoints import load_checkpoint
from whisperstill.model.kv_cache import StaticKVCache

Make = Callable[[int, int], DraftModel]


class Told:
    """Proposes what it is told for each row."""

    def __init__(self, texts: dict[bytes, list[int]], change: Callable[[int], int]) -> None:
        self.texts, self.change = texts, change
        self.rows: dict[int, tuple[list[int], int]] = {}

    def prefill(self, rows: list[int], encoder_states: Tensor, prompt_tokens: Tensor) -> None:
        """Windows are known by their first states."""
        for row, state in zip(rows, encoder_states, strict=True):
            self.rows[row] = (self.texts[_name(state)], prompt_tokens.shape[1])

    def propose(self, state: DecodeState, num_tokens: int) -> Tensor:
        """The next tokens of each row's text, changed."""
        found = []
        for row, length in enumerate(state.length.tolist()):
            text, prompt = self.rows.get(row, ([], 0))
            rest = text[max(0, length - prompt) :][:num_tokens]
            found.append([self.change(token) for token in rest] + [0] * (num_tokens - len(rest)))
        return torch.tensor(found)

    def select_rows(self, order: Tensor) -> None:
        """Follow the rows."""
        self.rows = {new: self.rows[old] for new, old in enumerate(order.tolist())}


@dataclass
class Result:
    """One way of decoding against greedy."""

    name: str
    windows: int = 0
    tokens: int = 0
    differing_tokens: int = 0
    differing_windows: int = 0
    bits_equal: bool | None = None
    margins: list[float] = field(default_factory=list)
    """Of the two best logits where a window first differs."""
    acceptance_rate: float = 0.0
    tokens_per_verification: float = 0.0
    seconds: float = 0.0


def _name(state: Tensor) -> bytes:
    return state[:4].float().numpy().tobytes()


def decode(
    recogniser: WhisperModel,
    states: Sequence[Tensor],
    size: int,
    *,
    make: Make | None = None,
    student: bool = False,
    blocks: tuple[int, ...] = (1,),
    exact: bool = False,
    temperature: float = 0.0,
    top: int = 0,
) -> tuple[list[DecodingResult], SpeculativeStats]:
    """Every other window with timestamps; `make` or the `student` drafts, or nobody."""
    found: dict[int, DecodingResult] = {}
    counts = SpeculativeStats()
    for timestamps in (False, True):
        rules = recogniser.make_logit_filter(timestamps)
        start = recogniser.vocabulary.sot_sequence("en", "transcribe", timestamps)
        chosen = range(int(timestamps), len(states), 2)
        if not chosen:
            continue
        drafts = recogniser.make_draft_factory(rules) if student else make
        controller, batch_size = DraftLengthController(blocks), min(size, len(chosen))
        scheduler = BatchScheduler(recogniser.network, rules, batch_size, top, drafts, controller, exact)
        jobs = [
            DecodeRequest(states[row].to(recogniser.network.dtype), start, temperature=temperature, seed=row)
            for row in chosen
        ]
        found |= dict(zip(chosen, Generator(scheduler).generate(jobs), strict=True))
        counts += scheduler.speculative_stats
    return [found[row] for row in range(len(states))], counts


def compare(
    name: str, found: list[DecodingResult], expected: list[DecodingResult], counts: SpeculativeStats, seconds: float
) -> Result:
    """Token by token."""
    result = Result(name, len(found), acceptance_rate=round(counts.acceptance_rate, 3), seconds=round(seconds, 1))
    result.tokens_per_verification = round(counts.tokens_per_verification, 2)
    for one, other in zip(found, expected, strict=True):
        mine, theirs = (*one.tokens, one.ended), (*other.tokens, other.ended)
        result.tokens += len(theirs)
        if mine != theirs:
            result.differing_windows += 1
            places = [at for at, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b]
            result.differing_tokens += len(places) + abs(len(mine) - len(theirs))
            at = min([*places, len(mine) - 1, len(theirs) - 1])
            if other.token_stats.top_logits.shape[1] > 1:
                two = other.token_stats.top_logits[min(at, len(other.token_stats.top_logits) - 1)]
                result.margins.append(round(float(two[0] - two[1]), 4))
    print(json.dumps(vars(result)), flush=True)
    return result


def same_bits(found: list[DecodingResult], expected: list[DecodingResult]) -> bool:
    """Whether hidden states, from which logits are, and log-probabilities are equal to the last bit."""
    names = ("hidden", "filtered_logprob", "top_logits")
    return all(
        torch.equal(getattr(one.token_stats, name), getattr(other.token_stats, name))
        for one, other in zip(found, expected, strict=True)
        for name in names
    )


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--teacher", default="base")
    parser.add_argument("--student", required=True)
    parser.add_argument("--windows", type=int, default=100_000)
    parser.add_argument("--output", type=Path, default=Path("bench/results/exactness.json"))
    given = parser.parse_args()

    teacher, student = load_checkpoint(given.teacher), load_checkpoint(given.student)
    store = open_labels(given.labels)
    states = []
    for labelled in store.read_labels():
        states.append(store.read_encoder_states(labelled).clone())
        if len(states) == given.windows:
            break
    results = run(teacher, student, states)
    content = {
        "command": f"bench/exactness.py --windows {len(states)}",
        "teacher": given.teacher,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "results": [vars(one) for one in results],
    }
    atomic_write(given.output, json.dumps(content, indent=1) + "\n")
    checked = [one for one in results if one.name.startswith("float32")]
    print(sum(one.tokens for one in checked), "tokens,", sum(one.differing_tokens for one in checked), "differing")


def run(teacher, student, states: list[Tensor]) -> list[Result]:  # type: ignore[no-untyped-def]
    """All comparisons."""
    recogniser = WhisperModel(teacher, dtype=torch.float32, assistant=student)
    results = []

    def timed(name: str, expected: list[DecodingResult], part: int, size: int, **how: object) -> None:
        some = states[:: max(1, part)]
        begun = time.perf_counter()
        found, counts = decode(recogniser, some, size, **how)  # type: ignore[arg-type]
        results.append(compare(name, found, expected, counts, time.perf_counter() - begun))

    begun = time.perf_counter()
    greedy, counts = decode(recogniser, states, 16)
    print(f"greedy: {counts.tokens} tokens, {time.perf_counter() - begun:.0f} s", flush=True)
    for size, part in ((16, 1), (4, 8), (1, 24)):
        expected = greedy if part == 1 else decode(recogniser, states[::part], 16)[0]
        timed(f"float32, student, batch {size}", expected, part, size, student=True, blocks=(1, 4, 8, 16))
    part = 24
    some = states[::part]
    expected = decode(recogniser, some, 16)[0]
    end = recogniser.vocabulary.end_of_text
    texts = {_name(state): [*one.tokens, end] for state, one in zip(some, expected, strict=True)}
    generator = torch.Generator().manual_seed(0)
    changes: dict[str, Callable[[int], int]] = {
        "always right": lambda token: token,
        "always wrong": lambda token: (token + 1) % 50000,
        "random": lambda token: int(torch.randint(0, 50000, (), generator=generator)),
        "ends early": lambda token: end,
    }
    for name, change in changes.items():
        how = {"make": lambda size, capacity, change=change: Told(texts, change), "blocks": (8,)}
        timed(f"float32, {name}, batch 16", expected, part, 16, **how)
    sampled = decode(recogniser, some, 16, temperature=0.7)[0]
    timed("float32, student, temperature 0.7, batch 4", sampled, part, 4, student=True, blocks=(4,), temperature=0.7)

    few = states[:: 2 * part]
    narrow: dict[str, dict[str, Any]] = {
        "float32": {"dtype": torch.float32},
        "bfloat16": {"dtype": torch.bfloat16},
        "int8": {"int8": True},
    }
    for name, kind in narrow.items():
        rounded = WhisperModel(teacher, assistant=student, **kind)
        exact = {"blocks": (DETERMINISTIC_BLOCK_SIZE,), "exact": True, "top": 2}
        plain, _ = decode(rounded, few, 4, make=lambda size, capacity: NullDraft(), **exact)
        begun = time.perf_counter()
        found, counts = decode(rounded, few, 4, student=True, **exact)
        one = compare(f"exact blocks, {name}, batch 4", found, plain, counts, time.perf_counter() - begun)
        one.bits_equal = same_bits(found, plain)
        results.append(one)
        if name != "float32":
            alone, _ = decode(rounded, few, 1, top=2)
            found, counts = decode(rounded, few, 4, student=True, blocks=(4,))
            results.append(compare(f"free, {name}, batch 4 against greedy alone", found, alone, counts, 0.0))
    results.append(control(recogniser, few))
    return results


def control(recogniser: WhisperModel, states: list[Tensor]) -> Result:
    """One slot of one layer is spoiled at one position: this must be noticed."""
    expected, _ = decode(recogniser, states, 4)
    extend = StaticKVCache.extend

    def spoiled(self: StaticKVCache, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = extend(self, layer, key, value)
        if layer == 0 and self.num_rows > 1 and keys.shape[2] > 6:
            values[1, :, 5] += 3.0
        return keys, values

    StaticKVCache.extend = spoiled  # type: ignore[method-assign]
    try:
        found, counts = decode(recogniser, states, 4, student=True, blocks=(4,))
    finally:
        StaticKVCache.extend = extend  # type: ignore[method-assign]
    return compare("control, a spoiled slot", found, expected, counts, 0.0)


if __name__ == "__main__":
    main()
