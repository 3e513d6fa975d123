"""Speculative decoding equals greedy decoding for any draft model."""

import itertools
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor

from whisperstill.decode.generate.batch_scheduler import DecodeRequest
from whisperstill.decode.generate.draft_model import (
    DRAFT_FRAME_POOLING,
    DecodeState,
    DraftModel,
)
from whisperstill.decode.generate.logit_filter import LogitFilter, TokenHistory
from whisperstill.decode.generate.token_stats import DecodingResult
from whisperstill.model.checkpoints import Checkpoint
from whisperstill.model.generation_config import GenerationConfig
from whisperstill.model.kv_cache import StaticKVCache
from whisperstill.model.student_init import init_student
from whisperstill.model.whisper import Whisper
from whisperstill.text.vocabulary import Vocabulary

from unit.decode.batches import decode_batch, make_scheduler, run

VOCABULARY = Vocabulary.from_size(51865)
STEPS = 16
BATCH = 5


class ScriptedDraft(DraftModel):
    """Draft model that proposes the next tokens of a given text for each row."""

    def __init__(self, texts: list[list[int]], prompt: int, change: Callable[[int], int] = lambda token: token) -> None:
        self.texts = [[change(token) for token in text] for text in texts]
        self.prompt = prompt
        self.rows = torch.arange(len(texts))

    def prefill(self, rows: list[int], encoder_states: Tensor, prompt_tokens: Tensor) -> None:
        """Row i has text i."""
        assert set(rows) <= set(self.rows.tolist()) and prompt_tokens.shape[1] == self.prompt

    def propose(self, state: DecodeState, num_tokens: int) -> Tensor:
        """The next tokens of the text; zeros beyond its end."""
        starts = (state.length - self.prompt).clamp(min=0).tolist()
        results = []
        for row, start in zip(self.rows.tolist(), starts, strict=True):
            rest = self.texts[row][start : start + num_tokens]
            results.append(rest + [0] * (num_tokens - len(rest)))
        return torch.tensor(results)

    def select_rows(self, order: Tensor) -> None:
        """Reorder the texts."""
        self.rows = self.rows[order]


def greedy(
    network: Whisper, states: Tensor, start: Tensor, logit_filter: LogitFilter, steps: int = 224
) -> list[DecodingResult]:
    return decode_batch(network, states, start, logit_filter, max_new_tokens=steps)[0]


@pytest.fixture(scope="module")
def network(random_checkpoint: Checkpoint) -> Whisper:
    return Whisper.from_state(random_checkpoint.dims, random_checkpoint.state)


@pytest.fixture(scope="module")
def student(random_checkpoint: Checkpoint) -> Whisper:
    made = init_student(random_checkpoint, (0,))
    return Whisper.from_state(made.dims, made.state)


@pytest.fixture(scope="module")
def states() -> Tensor:
    return torch.randn(BATCH, 1500, 32, generator=torch.Generator().manual_seed(3))


class EndingFilter(LogitFilter):
    """Logit filter that ends rows at different steps."""

    def apply(self, logits: Tensor, history: TokenHistory) -> Tensor:
        """End a row where the id of its best token is divisible by 9, and nowhere else."""
        logits = super().apply(logits, history)
        logits[:, VOCABULARY.end_of_text] = -torch.inf
        hit = (logits.argmax(-1) % 9 == 0) & (history.num_tokens > 2)
        logits[hit, VOCABULARY.end_of_text] = 1e4
        return logits


def make_filter(timestamps: bool, kind: type[LogitFilter] = EndingFilter) -> LogitFilter:
    return kind(VOCABULARY, GenerationConfig((1, 2), (220, 50257), ()), timestamps)


def make_network_draft(
    student: Whisper, logit_filter: LogitFilter, draft_token_ids: Tensor | None = None
) -> Callable[[int, int], DraftModel]:
    return lambda size, capacity: DraftModel(student.decoder, size, 1500, capacity, logit_filter, draft_token_ids)


def assert_tokens_equal(results: list[DecodingResult], expected: list[DecodingResult]) -> None:
    """Results have the same tokens and ends in every row; the message names each row and position that differs."""
    assert len(results) == len(expected)
    differences = []
    for row, (result, other) in enumerate(zip(results, expected, strict=True)):
        pairs = enumerate(itertools.zip_longest(result.tokens, other.tokens))
        differences += [f"row {row}, token {index}: {a}, expected {b}" for index, (a, b) in pairs if a != b]
        if result.ended != other.ended:
            differences.append(f"row {row}: ended {result.ended}, expected {other.ended}")
    assert not differences, "\n".join(differences)


@pytest.fixture(scope="module")
def greedy_results(network: Whisper, states: Tensor) -> Callable[[tuple[int, ...], bool], list[DecodingResult]]:
    """`greedy` for a prompt, with or without timestamps, decoded once each."""

    @cache
    def results(prompt_tokens: tuple[int, ...], timestamps: bool) -> list[DecodingResult]:
        return greedy(network, states, torch.tensor([prompt_tokens] * BATCH), make_filter(timestamps), STEPS)

    return results


@pytest.mark.parametrize("deterministic", [False, True], ids=["fast", "deterministic"])
@pytest.mark.parametrize("block", [1, 3, 8])
@pytest.mark.parametrize(
    ("timestamps", "prompt"),
    [(False, ()), (True, ()), (True, (50361, 100, 101))],
    ids=["text", "timestamps", "prompt and timestamps"],
)
@pytest.mark.parametrize("kind", ["network", "right", "wrong", "half", "ends", "null"])
def test_speculative_is_greedy(
    network: Whisper,
    student: Whisper,
    states: Tensor,
    greedy_results: Callable[[tuple[int, ...], bool], list[DecodingResult]],
    block: int,
    timestamps: bool,
    prompt: tuple[int, ...],
    kind: str,
    deterministic: bool,
) -> None:
    logit_filter = make_filter(timestamps)
    prompt_tokens = (*prompt, *VOCABULARY.sot_sequence("en", "transcribe", timestamps))
    start = torch.tensor([prompt_tokens] * BATCH)
    expected = greedy_results(prompt_tokens, timestamps)
    greedy_tokens = [[*result.tokens, VOCABULARY.end_of_text] for result in expected]
    shuffled = torch.Generator().manual_seed(1)

    def draft(size: int, capacity: int) -> DraftModel:
        match kind:
            case "network":
                return DraftModel(student.decoder, size, 1500, capacity, logit_filter, None)
            case "right":
                return ScriptedDraft(greedy_tokens, len(prompt_tokens))
            case "wrong":
                return ScriptedDraft(greedy_tokens, len(prompt_tokens), lambda token: (token + 1) % 50000)
            case "half":
                coin = lambda token: token if torch.rand((), generator=shuffled) < 0.5 else 7  # noqa: E731
                return ScriptedDraft(greedy_tokens, len(prompt_tokens), coin)
            case "ends":
                return ScriptedDraft(greedy_tokens, len(prompt_tokens), lambda token: VOCABULARY.end_of_text)
        raise AssertionError(kind)

    results, stats = decode_batch(
        network,
        states,
        start,
        logit_filter,
        max_new_tokens=STEPS,
        top_k=3,
        make_draft=None if kind == "null" else draft,
        block_sizes=(block,),
        deterministic=deterministic,
    )
    assert_tokens_equal(results, expected)
    for result, other in zip(results, expected, strict=True):
        assert result.token_stats.logprob.tolist() == pytest.approx(other.token_stats.logprob.tolist(), abs=1e-4)
        assert result.no_speech_prob == pytest.approx(other.no_speech_prob, abs=1e-6)
        assert len(result.token_stats.top_ids) == len(result.tokens) + result.ended
    assert stats.tokens == sum(len(result.tokens) + result.ended for result in expected)
    if kind == "right" and block > 1:
        assert stats.tokens_per_verification > 1.5
    if kind in ("wrong", "null") or block == 1:
        assert stats.accepted == 0 and stats.tokens_per_verification == 1
    assert len({len(result.tokens) for result in expected}) > 1  # rows end at different steps
    assert any(result.ended for result in expected) and len({result.tokens for result in expected}) == BATCH


def test_prompt_of_one_token(network: Whisper, student: Whisper, states: Tensor) -> None:
    start = torch.full((BATCH, 1), VOCABULARY.start_of_transcript)
    logit_filter = make_filter(True)
    results, _ = decode_batch(
        network,
        states,
        start,
        logit_filter,
        make_draft=make_network_draft(student, logit_filter),
        block_sizes=(4,),
        max_new_tokens=STEPS,
    )
    assert_tokens_equal(results, greedy(network, states, start, logit_filter, STEPS))


def test_blocks_beyond_the_last_position(network: Whisper, student: Whisper, states: Tensor) -> None:
    """Tokens of a block beyond the last position of the decoder are ignored."""
    prompt_tokens = (50361, *range(100, 540 - 100), *VOCABULARY.sot_sequence("en"))[-436:]
    prompt_tokens = (*prompt_tokens[:-4], *VOCABULARY.sot_sequence("en"))
    start = torch.tensor([prompt_tokens] * 2)
    logit_filter = make_filter(False, LogitFilter)
    results, _ = decode_batch(
        network, states[:2], start, logit_filter, make_draft=make_network_draft(student, logit_filter), block_sizes=(8,)
    )
    assert_tokens_equal(results, greedy(network, states[:2], start, logit_filter))
    assert {len(result.tokens) for result in results} == {448 - len(prompt_tokens)}


def test_changing_block_sizes(network: Whisper, student: Whisper, states: Tensor) -> None:
    """A draft model that proposed nothing for some steps processes the missed tokens."""
    start, logit_filter = torch.tensor([VOCABULARY.sot_sequence("en")] * BATCH), make_filter(False, LogitFilter)
    expected = greedy(network, states, start, logit_filter, 40)
    scheduler = make_scheduler(
        network, logit_filter, BATCH, make_draft=make_network_draft(student, logit_filter), block_sizes=(1, 4, 8, 16)
    )
    chosen = iter([1, 1, 4, 1, 8, 16, 1, 1, 1, 4] * 100)
    scheduler.length_controller.choose_block_size = lambda rows: next(chosen)  # type: ignore[method-assign]
    requests = [DecodeRequest(state, VOCABULARY.sot_sequence("en"), max_new_tokens=40) for state in states]
    assert_tokens_equal(run(scheduler, requests), expected)


def test_draft_with_reduced_vocabulary(network: Whisper, student: Whisper, states: Tensor) -> None:
    start, logit_filter = (
        torch.tensor([VOCABULARY.sot_sequence("en", "transcribe", True)] * BATCH),
        make_filter(True, LogitFilter),
    )
    draft_token_ids = torch.cat((torch.arange(0, 50257, 2), torch.arange(50257, VOCABULARY.size)))
    expected = greedy(network, states, start, logit_filter, STEPS)
    results, _ = decode_batch(
        network,
        states,
        start,
        logit_filter,
        make_draft=make_network_draft(student, logit_filter, draft_token_ids),
        block_sizes=(4,),
        max_new_tokens=STEPS,
    )
    assert_tokens_equal(results, expected)
    with pytest.raises(ValueError, match="end of text"):
        logit_filter.restrict_to(torch.arange(10))


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_slots_are_refilled(network: Whisper, student: Whisper, states: Tensor, size: int, deterministic: bool) -> None:
    """Windows with prompts of different lengths in few slots equal windows decoded alone."""
    logit_filter = make_filter(True)
    starts = [
        (*range(60, 60 + 3 * row), *VOCABULARY.sot_sequence(language, "transcribe", True))
        for row, language in enumerate(["en", "de", "en", "es", "zh"])
    ]
    alone = [
        greedy(network, states[row : row + 1], torch.tensor([starts[row]]), logit_filter, STEPS)[0]
        for row in range(BATCH)
    ]
    scheduler = make_scheduler(
        network,
        logit_filter,
        size,
        make_draft=make_network_draft(student, logit_filter),
        block_sizes=(4,),
        deterministic=deterministic,
    )
    results = run(scheduler, [DecodeRequest(states[row], starts[row], max_new_tokens=STEPS) for row in range(BATCH)])
    assert_tokens_equal(results, alone)
    for result, other in zip(results, alone, strict=True):
        assert result.token_stats.filtered_logprob.tolist() == pytest.approx(
            other.token_stats.filtered_logprob.tolist(), abs=1e-4
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_deterministic_results_are_bitwise_equal(
    random_checkpoint: Checkpoint, student: Whisper, states: Tensor, dtype: torch.dtype
) -> None:
    """More windows than slots: hidden states and log-probabilities do not depend on the draft model."""
    network = Whisper.from_state(random_checkpoint.dims, random_checkpoint.state, dtype)
    logit_filter, window_states = make_filter(True), states.to(dtype)

    def decoded(make: Callable[[int, int], DraftModel] | None) -> list[DecodingResult]:
        scheduler = make_scheduler(
            network, logit_filter, 3, top_k=2, make_draft=make, block_sizes=(4,), deterministic=True
        )
        start = VOCABULARY.sot_sequence("en", "transcribe", True)
        return run(scheduler, [DecodeRequest(window_states[row], start) for row in range(BATCH)])

    plain, drafted = decoded(None), decoded(make_network_draft(student, logit_filter))
    assert_tokens_equal(plain, drafted)
    for result, other in zip(plain, drafted, strict=True):
        torch.testing.assert_close(result.token_stats.hidden, other.token_stats.hidden, rtol=0, atol=0)
        torch.testing.assert_close(
            result.token_stats.filtered_logprob, other.token_stats.filtered_logprob, rtol=0, atol=0
        )


def test_sampling_does_not_depend_on_draft_and_batch(network: Whisper, student: Whisper, states: Tensor) -> None:
    """Equal seeds give equal tokens for any batch and block size; another seed gives other tokens."""
    logit_filter = make_filter(True)

    def sampled(size: int, blocks: tuple[int, ...], seed: int) -> list[tuple[int, ...]]:
        scheduler = make_scheduler(
            network, logit_filter, size, make_draft=make_network_draft(student, logit_filter), block_sizes=blocks
        )
        start = VOCABULARY.sot_sequence("en", "transcribe", True)
        requests = [
            DecodeRequest(states[row], start, temperature=0.25 * row, seed=seed + row, max_new_tokens=STEPS)
            for row in range(BATCH)
        ]
        return [result.tokens for result in run(scheduler, requests)]

    alone = sampled(1, (1,), 7)
    assert sampled(1, (8,), 7) == sampled(3, (4,), 7) == sampled(5, (1,), 7) == alone
    other = sampled(5, (1,), 1007)
    assert other[0] == alone[0]  # temperature 0
    assert [row for row in range(1, BATCH) if other[row] == alone[row]] == []


@pytest.mark.parametrize("temperature", [0.0, 0.6])
@pytest.mark.parametrize("blocks", [(4,), (1, 4, 8, 16)], ids=str)
@pytest.mark.parametrize("prompts", [(0, 3, 6, 9, 12), (60, 0, 3, 0, 0)], ids=["rising prompt lengths", "two prompts"])
def test_network_as_its_own_draft_is_always_accepted(
    network: Whisper, states: Tensor, prompts: tuple[int, ...], blocks: tuple[int, ...], temperature: float
) -> None:
    """Errors in a draft model lower the acceptance rate only; this test finds them.

    The draft model is the network itself, with moving rows and all block sizes. Neighbouring encoder states are equal,
    so that frame pooling does not change them.
    """
    logit_filter = make_filter(True, LogitFilter)
    states = states[:, ::DRAFT_FRAME_POOLING].repeat_interleave(DRAFT_FRAME_POOLING, 1)
    scheduler = make_scheduler(
        network, logit_filter, BATCH, make_draft=make_network_draft(network, logit_filter), block_sizes=blocks
    )
    if len(blocks) > 1:
        chosen = iter([*[1] * 9, 4, 1, 8, 16, 1, 1, 1, 4, *[4, 1, 8] * 100])
        scheduler.length_controller.choose_block_size = lambda rows: next(chosen)  # type: ignore[method-assign]
    start = VOCABULARY.sot_sequence("en", "transcribe", True)
    requests = [
        DecodeRequest(
            states[row], (*range(60, 60 + extra), *start), temperature=temperature, seed=row, max_new_tokens=most
        )
        for row, (extra, most) in enumerate(zip(prompts, (4, 40, 40, 6, 40), strict=True))
    ]
    updates, update = [], scheduler.length_controller.update

    def recorded_update(block: int, rows: int, seconds: float, accepted: int, checked: int) -> None:
        updates.append((accepted, checked))
        update(block, rows, seconds, accepted, checked)

    scheduler.length_controller.update = recorded_update  # type: ignore[method-assign]
    run(scheduler, requests)
    accepted, checked = (sum(column) for column in zip(*updates, strict=True))
    assert accepted > 20
    # Correct proposals beyond the last token of a window are not accepted.
    assert checked - accepted <= BATCH


def test_cached_length_moves_with_its_row(student: Whisper, states: Tensor) -> None:
    draft = DraftModel(student.decoder, 3, 1500, 456, make_filter(False), None)
    for row, length in enumerate((9, 5, 3)):
        draft.prefill([row], states[row : row + 1], torch.arange(length)[None])
    draft.select_rows(torch.tensor([2, 1]))
    assert draft._cached_length[:2].tolist() == [2, 4]


def test_invalid_block_sizes_raise(network: Whisper, states: Tensor) -> None:
    start = torch.tensor([VOCABULARY.sot_sequence("en")] * BATCH)
    with pytest.raises(ValueError, match="block_sizes must be at least 1"):
        decode_batch(network, states, start, make_filter(False), block_sizes=(0,))
    with pytest.raises(ValueError, match="exactly one when deterministic"):
        decode_batch(network, states, start, make_filter(False), block_sizes=(1, 4), deterministic=True)


def test_control_corrupted_cache_fails(network: Whisper, states: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    logit_filter, start = make_filter(False), torch.tensor([VOCABULARY.sot_sequence("en")] * BATCH)
    expected = greedy(network, states, start, logit_filter, STEPS)
    extend = StaticKVCache.extend

    def corrupted(self: StaticKVCache, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = extend(self, layer, key, value)
        values[-1, :, 2] += 1.0
        return keys, values

    monkeypatch.setattr(StaticKVCache, "extend", corrupted)
    results, _ = decode_batch(
        network,
        states,
        start,
        logit_filter,
        max_new_tokens=STEPS,
        block_sizes=(8,),
    )
    with pytest.raises(AssertionError, match=r"row [0-9]+, token [0-9]+: "):
        assert_tokens_equal(results, expected)
