"""Speculative decoding = greedy decoding of the teacher, whoever proposes."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from whisperstill.decode.generate.batch_scheduler import DecodeRequest
from whisperstill.decode.generate.draft_model import (
    DRAFT_FRAME_POOLING,
    DecodeState,
    DraftModel,
    NetworkDraft,
    NullDraft,
)
from whisperstill.decode.generate.logit_filter import LogitFilter, TokenHistory
from whisperstill.decode.generate.token_stats import DecodingResult
from whisperstill.model.checkpoints import Checkpoint
from whisperstill.model.generation_config import GenerationConfig
from whisperstill.model.kv_cache import StaticKVCache
from whisperstill.model.student_init import make_student
from whisperstill.model.whisper import Whisper
from whisperstill.text.vocabulary import Vocabulary

from unit.decode.batches import decode_batch, make_scheduler, run

VOCABULARY = Vocabulary.from_size(51865)
STEPS = 16
BATCH = 5


class Script:
    """Proposes what a script says for each row, from where the row stands."""

    def __init__(self, lines: list[list[int]], prompt: int, change: Callable[[int], int] = lambda token: token) -> None:
        self.lines = [[change(token) for token in line] for line in lines]
        self.prompt = prompt
        self.rows = torch.arange(len(lines))

    def prefill(self, rows: list[int], encoder_states: Tensor, prompt_tokens: Tensor) -> None:
        """Row i is line i."""
        assert set(rows) <= set(self.rows.tolist()) and prompt_tokens.shape[1] == self.prompt

    def propose(self, state: DecodeState, num_tokens: int) -> Tensor:
        """The next tokens of the script; zeros behind its end."""
        said = (state.length - self.prompt).clamp(min=0).tolist()
        found = []
        for row, at in zip(self.rows.tolist(), said, strict=True):
            rest = self.lines[row][at : at + num_tokens]
            found.append(rest + [0] * (num_tokens - len(rest)))
        return torch.tensor(found)

    def select_rows(self, order: Tensor) -> None:
        """Follow the rows."""
        self.rows = self.rows[order]


def greedy(
    network: Whisper, states: Tensor, start: Tensor, rules: LogitFilter, steps: int = 224
) -> list[DecodingResult]:
    return decode_batch(network, states, start, rules, max_new_tokens=steps)[0]


@pytest.fixture(scope="module")
def network(random_checkpoint: Checkpoint) -> Whisper:
    return Whisper.from_state(random_checkpoint.dims, random_checkpoint.state)


@pytest.fixture(scope="module")
def student(random_checkpoint: Checkpoint) -> Whisper:
    made = make_student(random_checkpoint, (0,))
    return Whisper.from_state(made.dims, made.state)


@pytest.fixture(scope="module")
def states() -> Tensor:
    return torch.randn(BATCH, 1500, 32, generator=torch.Generator().manual_seed(3))


class Ending(LogitFilter):
    """Rows end at their own times: the more likely a token of a certain kind, the more the end."""

    def apply(self, logits: Tensor, history: TokenHistory) -> Tensor:
        """Where the best token's number is divisible by 9, the row ends; it may not before."""
        logits = super().apply(logits, history)
        logits[:, VOCABULARY.end_of_text] = -torch.inf
        hit = (logits.argmax(-1) % 9 == 0) & (history.num_tokens > 2)
        logits[hit, VOCABULARY.end_of_text] = 1e4
        return logits


def rules_for(timestamps: bool, kind: type[LogitFilter] = Ending) -> LogitFilter:
    return kind(VOCABULARY, GenerationConfig((1, 2), (220, 50257), ()), timestamps)


def maker(student: Whisper, rules: LogitFilter, listed: Tensor | None = None) -> Callable[[int, int], DraftModel]:
    return lambda size, capacity: NetworkDraft(student.decoder, size, 1500, capacity, rules, listed)


def same(found: list[DecodingResult], expected: list[DecodingResult]) -> bool:
    return [(one.tokens, one.ended) for one in found] == [(one.tokens, one.ended) for one in expected]


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("block", [1, 3, 8])
@pytest.mark.parametrize(("timestamps", "prompt"), [(False, ()), (True, ()), (True, (50361, 100, 101))])
@pytest.mark.parametrize("who", ["student", "right", "wrong", "half", "ends", "nobody"])
def test_speculative_is_greedy(
    network: Whisper,
    student: Whisper,
    states: Tensor,
    block: int,
    timestamps: bool,
    prompt: tuple[int, ...],
    who: str,
    exact: bool,
) -> None:
    rules = rules_for(timestamps)
    line = (*prompt, *VOCABULARY.sot_sequence("en", "transcribe", timestamps))
    start = torch.tensor([line] * BATCH)
    expected = greedy(network, states, start, rules, STEPS)
    truth = [[*one.tokens, VOCABULARY.end_of_text] for one in expected]
    shuffled = torch.Generator().manual_seed(1)

    def draft(size: int, capacity: int) -> DraftModel:
        match who:
            case "student":
                return NetworkDraft(student.decoder, size, 1500, capacity, rules, None)
            case "right":
                return Script(truth, len(line))
            case "wrong":
                return Script(truth, len(line), lambda token: (token + 1) % 50000)
            case "half":
                coin = lambda token: token if torch.rand((), generator=shuffled) < 0.5 else 7  # noqa: E731
                return Script(truth, len(line), coin)
            case "ends":
                return Script(truth, len(line), lambda token: VOCABULARY.end_of_text)
        return NullDraft()

    found, counts = decode_batch(
        network,
        states,
        start,
        rules,
        max_new_tokens=STEPS,
        top_k=3,
        make_draft=draft,
        block_sizes=(block,),
        deterministic=exact,
    )
    assert same(found, expected)
    for one, other in zip(found, expected, strict=True):
        assert one.token_stats.logprob.tolist() == pytest.approx(other.token_stats.logprob.tolist(), abs=1e-4)
        assert one.no_speech_prob == pytest.approx(other.no_speech_prob, abs=1e-6)
        assert len(one.token_stats.top_ids) == len(one.tokens) + one.ended
    assert counts.tokens == sum(len(one.tokens) + one.ended for one in expected)
    if who == "right" and block > 1:
        assert counts.tokens_per_verification > 1.5
    if who in ("wrong", "nobody") or block == 1:
        assert counts.accepted == 0 and counts.tokens_per_verification == 1
    assert len({len(one.tokens) for one in expected}) > 1  # rows end at different times
    assert any(one.ended for one in expected) and len({one.tokens for one in expected}) == BATCH


def test_a_one_token_start_has_no_token_before(network: Whisper, student: Whisper, states: Tensor) -> None:
    start = torch.full((BATCH, 1), VOCABULARY.start_of_transcript)
    rules = rules_for(True)
    found, _ = decode_batch(
        network, states, start, rules, make_draft=maker(student, rules), block_sizes=(4,), max_new_tokens=STEPS
    )
    assert same(found, greedy(network, states, start, rules, STEPS))


def test_the_end_of_the_positions(network: Whisper, student: Whisper, states: Tensor) -> None:
    """Blocks reach beyond the network's last position, and nothing of that counts."""
    line = (50361, *range(100, 540 - 100), *VOCABULARY.sot_sequence("en"))[-436:]
    line = (*line[:-4], *VOCABULARY.sot_sequence("en"))
    start = torch.tensor([line] * 2)
    rules = rules_for(False, LogitFilter)
    found, _ = decode_batch(network, states[:2], start, rules, make_draft=maker(student, rules), block_sizes=(8,))
    assert same(found, greedy(network, states[:2], start, rules))
    assert {len(one.tokens) for one in found} == {448 - len(line)}


def test_blocks_that_change_all_the_time(network: Whisper, student: Whisper, states: Tensor) -> None:
    """Whatever length the pace chooses, a student that was left out for a while catches up."""
    start, rules = torch.tensor([VOCABULARY.sot_sequence("en")] * BATCH), rules_for(False, LogitFilter)
    expected = greedy(network, states, start, rules, 40)
    pool = make_scheduler(network, rules, BATCH, make_draft=maker(student, rules), block_sizes=(1, 4, 8, 16))
    chosen = iter([1, 1, 4, 1, 8, 16, 1, 1, 1, 4] * 100)
    pool.length_controller.choose_block_size = lambda rows: next(chosen)  # type: ignore[method-assign]
    jobs = [DecodeRequest(state, VOCABULARY.sot_sequence("en"), max_new_tokens=40) for state in states]
    assert same(run(pool, jobs), expected)


def test_a_draft_may_know_a_part_of_the_vocabulary(network: Whisper, student: Whisper, states: Tensor) -> None:
    start, rules = (
        torch.tensor([VOCABULARY.sot_sequence("en", "transcribe", True)] * BATCH),
        rules_for(True, LogitFilter),
    )
    listed = torch.cat((torch.arange(0, 50257, 2), torch.arange(50257, VOCABULARY.size)))
    expected = greedy(network, states, start, rules, STEPS)
    found, _ = decode_batch(
        network, states, start, rules, make_draft=maker(student, rules, listed), block_sizes=(4,), max_new_tokens=STEPS
    )
    assert same(found, expected)
    with pytest.raises(ValueError, match="end of text"):
        rules.restrict_to(torch.arange(10))


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_slots_are_taken_by_the_next_window(
    network: Whisper, student: Whisper, states: Tensor, size: int, exact: bool
) -> None:
    """Windows with prompts of different lengths, decoded in few slots, are those decoded alone."""
    rules = rules_for(True)
    starts = [
        (*range(60, 60 + 3 * row), *VOCABULARY.sot_sequence(language, "transcribe", True))
        for row, language in enumerate(["en", "de", "en", "es", "zh"])
    ]
    alone = [
        greedy(network, states[row : row + 1], torch.tensor([starts[row]]), rules, STEPS)[0] for row in range(BATCH)
    ]
    pool = make_scheduler(network, rules, size, make_draft=maker(student, rules), block_sizes=(4,), deterministic=exact)
    found = run(pool, [DecodeRequest(states[row], starts[row], max_new_tokens=STEPS) for row in range(BATCH)])
    assert same(found, alone)
    for one, other in zip(found, alone, strict=True):
        assert one.token_stats.filtered_logprob.tolist() == pytest.approx(
            other.token_stats.filtered_logprob.tolist(), abs=1e-4
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_exact_blocks_are_equal_to_the_last_bit(
    random_checkpoint: Checkpoint, student: Whisper, states: Tensor, dtype: torch.dtype
) -> None:
    """Same slots, more windows than slots: whatever is proposed, hidden states and log-probabilities are the same."""
    network = Whisper.from_state(random_checkpoint.dims, random_checkpoint.state, dtype)
    rules, heard = rules_for(True), states.to(dtype)

    def decoded(make: Callable[[int, int], DraftModel]) -> list[DecodingResult]:
        pool = make_scheduler(network, rules, 3, top_k=2, make_draft=make, block_sizes=(4,), deterministic=True)
        start = VOCABULARY.sot_sequence("en", "transcribe", True)
        return run(pool, [DecodeRequest(heard[row], start) for row in range(BATCH)])

    plain, drafted = decoded(lambda size, capacity: NullDraft()), decoded(maker(student, rules))
    assert same(plain, drafted)
    for one, other in zip(plain, drafted, strict=True):
        assert torch.equal(one.token_stats.hidden, other.token_stats.hidden)
        assert torch.equal(one.token_stats.filtered_logprob, other.token_stats.filtered_logprob)


def test_sampling_with_a_draft_is_sampling_without(network: Whisper, student: Whisper, states: Tensor) -> None:
    """Same seed, same text, in whatever batch; another seed, another text."""
    rules = rules_for(True)

    def sampled(size: int, blocks: tuple[int, ...], seed: int) -> list[tuple[int, ...]]:
        pool = make_scheduler(network, rules, size, make_draft=maker(student, rules), block_sizes=blocks)
        start = VOCABULARY.sot_sequence("en", "transcribe", True)
        jobs = [
            DecodeRequest(states[row], start, temperature=0.25 * row, seed=seed + row, max_new_tokens=STEPS)
            for row in range(BATCH)
        ]
        return [one.tokens for one in run(pool, jobs)]

    alone = sampled(1, (1,), 7)
    assert sampled(1, (8,), 7) == sampled(3, (4,), 7) == sampled(5, (1,), 7) == alone
    other = sampled(5, (1,), 1007)
    assert other[0] == alone[0]  # temperature 0
    assert all(one != another for one, another in zip(other[1:], alone[1:], strict=True))


@pytest.mark.parametrize("temperature", [0.0, 0.6])
@pytest.mark.parametrize("blocks", [(4,), (1, 4, 8, 16)])
@pytest.mark.parametrize("prompts", [(0, 3, 6, 9, 12), (60, 0, 3, 0, 0)])
def test_who_drafts_for_itself_is_never_wrong(
    network: Whisper, states: Tensor, prompts: tuple[int, ...], blocks: tuple[int, ...], temperature: float
) -> None:
    """A draft cannot change what is decoded, so a mistake in it would only cost time: this is where it shows.

    The draft is the network itself, over rows that move up and blocks of all lengths. Neighbouring states are equal, so
    that their means are what the network hears.
    """
    rules = rules_for(True, LogitFilter)
    states = states[:, ::DRAFT_FRAME_POOLING].repeat_interleave(DRAFT_FRAME_POOLING, 1)
    pool = make_scheduler(network, rules, BATCH, make_draft=maker(network, rules), block_sizes=blocks)
    if len(blocks) > 1:
        chosen = iter([*[1] * 9, 4, 1, 8, 16, 1, 1, 1, 4, *[4, 1, 8] * 100])
        pool.length_controller.choose_block_size = lambda rows: next(chosen)  # type: ignore[method-assign]
    start = VOCABULARY.sot_sequence("en", "transcribe", True)
    jobs = [
        DecodeRequest(
            states[row], (*range(60, 60 + extra), *start), temperature=temperature, seed=row, max_new_tokens=most
        )
        for row, (extra, most) in enumerate(zip(prompts, (4, 40, 40, 6, 40), strict=True))
    ]
    asked, note = [], pool.length_controller.update

    def noted(block: int, rows: int, seconds: float, accepted: int, looked_at: int) -> None:
        asked.append((accepted, looked_at))
        note(block, rows, seconds, accepted, looked_at)

    pool.length_controller.update = noted  # type: ignore[method-assign]
    run(pool, jobs)
    accepted, looked_at = (sum(column) for column in zip(*asked, strict=True))
    assert accepted > 20
    # Behind the last token of a window nothing is accepted, though it was right.
    assert looked_at - accepted <= BATCH


def test_what_a_draft_has_read_moves_with_its_row(student: Whisper, states: Tensor) -> None:
    draft = NetworkDraft(student.decoder, 3, 1500, 456, rules_for(False), None)
    for row, length in enumerate((9, 5, 3)):
        draft.prefill([row], states[row : row + 1], torch.arange(length)[None])
    draft.select_rows(torch.tensor([2, 1]))
    assert draft._cached_length[:2].tolist() == [2, 4]


def test_blocks_of_nothing_are_refused(network: Whisper, states: Tensor) -> None:
    start = torch.tensor([VOCABULARY.sot_sequence("en")] * BATCH)
    with pytest.raises(ValueError, match="block_sizes must be at least 1"):
        decode_batch(
            network, states, start, rules_for(False), make_draft=lambda size, capacity: NullDraft(), block_sizes=(0,)
        )
    with pytest.raises(ValueError, match="without a draft"):
        decode_batch(network, states, start, rules_for(False), block_sizes=(4,))


def test_control_a_spoiled_slot_is_noticed(network: Whisper, states: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    rules, start = rules_for(False), torch.tensor([VOCABULARY.sot_sequence("en")] * BATCH)
    expected = greedy(network, states, start, rules, STEPS)
    extend = StaticKVCache.extend

    def spoiled(self: StaticKVCache, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = extend(self, layer, key, value)
        values[-1, :, 2] += 1.0
        return keys, values

    monkeypatch.setattr(StaticKVCache, "extend", spoiled)
    found, _ = decode_batch(
        network,
        states,
        start,
        rules,
        max_new_tokens=STEPS,
        make_draft=lambda size, capacity: NullDraft(),
        block_sizes=(8,),
    )
    assert not same(found, expected)
