"""Speculative decoding = greedy decoding of the teacher, whoever proposes."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from whisperstill.decode.batch import decode_batch
from whisperstill.decode.drafts import HEARD_TOGETHER, Draft, Nobody, Sofar, StudentDraft
from whisperstill.decode.observed import Decoded
from whisperstill.decode.pool import Job, Pool
from whisperstill.decode.rules import History, Rules
from whisperstill.model.cache import Slots
from whisperstill.model.checkpoints import Checkpoint
from whisperstill.model.generation import Generation
from whisperstill.model.student import make_student
from whisperstill.model.whisper import Whisper
from whisperstill.text.vocabulary import Vocabulary

VOCABULARY = Vocabulary.of(51865)
STEPS = 16
BATCH = 5


class Script:
    """Proposes what a script says for each row, from where the row stands."""

    def __init__(self, lines: list[list[int]], prompt: int, change: Callable[[int], int] = lambda token: token) -> None:
        self.lines = [[change(token) for token in line] for line in lines]
        self.prompt = prompt
        self.rows = torch.arange(len(lines))

    def put(self, rows: list[int], states: Tensor, start: Tensor) -> None:
        """Row i is line i."""
        assert set(rows) <= set(self.rows.tolist()) and start.shape[1] == self.prompt

    def propose(self, sofar: Sofar, count: int) -> Tensor:
        """The next tokens of the script; zeros behind its end."""
        said = (sofar.length - self.prompt).clamp(min=0).tolist()
        found = []
        for row, at in zip(self.rows.tolist(), said, strict=True):
            rest = self.lines[row][at : at + count]
            found.append(rest + [0] * (count - len(rest)))
        return torch.tensor(found)

    def keep(self, order: Tensor) -> None:
        """Follow the rows."""
        self.rows = self.rows[order]


def greedy(network: Whisper, states: Tensor, start: Tensor, rules: Rules, steps: int = 224) -> list[Decoded]:
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


class Ending(Rules):
    """Rows end at their own times: the more likely a token of a certain kind, the more the end."""

    def apply(self, logits: Tensor, history: History) -> Tensor:
        """Where the best token's number is divisible by 9, the row ends; it may not before."""
        logits = super().apply(logits, history)
        logits[:, VOCABULARY.end_of_text] = -torch.inf
        hit = (logits.argmax(-1) % 9 == 0) & (history.count > 2)
        logits[hit, VOCABULARY.end_of_text] = 1e4
        return logits


def rules_for(timestamps: bool, kind: type[Rules] = Ending) -> Rules:
    return kind(VOCABULARY, Generation((1, 2), (220, 50257), ()), timestamps)


def maker(student: Whisper, rules: Rules, listed: Tensor | None = None) -> Callable[[int, int], Draft]:
    return lambda size, capacity: StudentDraft(student.decoder, size, 1500, capacity, rules, listed)


def same(found: list[Decoded], expected: list[Decoded]) -> bool:
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
    line = (*prompt, *VOCABULARY.start("en", "transcribe", timestamps))
    start = torch.tensor([line] * BATCH)
    expected = greedy(network, states, start, rules, STEPS)
    truth = [[*one.tokens, VOCABULARY.end_of_text] for one in expected]
    shuffled = torch.Generator().manual_seed(1)

    def draft(size: int, capacity: int) -> Draft:
        match who:
            case "student":
                return StudentDraft(student.decoder, size, 1500, capacity, rules, None)
            case "right":
                return Script(truth, len(line))
            case "wrong":
                return Script(truth, len(line), lambda token: (token + 1) % 50000)
            case "half":
                coin = lambda token: token if torch.rand((), generator=shuffled) < 0.5 else 7  # noqa: E731
                return Script(truth, len(line), coin)
            case "ends":
                return Script(truth, len(line), lambda token: VOCABULARY.end_of_text)
        return Nobody()

    found, counts = decode_batch(
        network, states, start, rules, max_new_tokens=STEPS, top=3, make_draft=draft, blocks=(block,), exact=exact
    )
    assert same(found, expected)
    for one, other in zip(found, expected, strict=True):
        assert one.observed.logprob.tolist() == pytest.approx(other.observed.logprob.tolist(), abs=1e-4)
        assert one.no_speech == pytest.approx(other.no_speech, abs=1e-6)
        assert len(one.observed.top_ids) == len(one.tokens) + one.ended
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
        network, states, start, rules, make_draft=maker(student, rules), blocks=(4,), max_new_tokens=STEPS
    )
    assert same(found, greedy(network, states, start, rules, STEPS))


def test_the_end_of_the_positions(network: Whisper, student: Whisper, states: Tensor) -> None:
    """Blocks reach beyond the network's last position, and nothing of that counts."""
    line = (50361, *range(100, 540 - 100), *VOCABULARY.start("en"))[-436:]
    line = (*line[:-4], *VOCABULARY.start("en"))
    start = torch.tensor([line] * 2)
    rules = rules_for(False, Rules)
    found, _ = decode_batch(network, states[:2], start, rules, make_draft=maker(student, rules), blocks=(8,))
    assert same(found, greedy(network, states[:2], start, rules))
    assert {len(one.tokens) for one in found} == {448 - len(line)}


def test_blocks_that_change_all_the_time(network: Whisper, student: Whisper, states: Tensor) -> None:
    """Whatever length the pace chooses, a student that was left out for a while catches up."""
    start, rules = torch.tensor([VOCABULARY.start("en")] * BATCH), rules_for(False, Rules)
    expected = greedy(network, states, start, rules, 40)
    pool = Pool(network, rules, BATCH, 0, maker(student, rules), (1, 4, 8, 16))
    chosen = iter([1, 1, 4, 1, 8, 16, 1, 1, 1, 4] * 100)
    pool._pace.choose = lambda rows: next(chosen)  # type: ignore[method-assign]
    pool.put([Job(state, VOCABULARY.start("en"), max_new_tokens=40, mark=row) for row, state in enumerate(states)])
    found: dict[object, Decoded] = {}
    while pool.busy:
        found |= {job.mark: one for job, one in pool.step()}
    assert same([found[row] for row in range(BATCH)], expected)


def test_a_draft_may_know_a_part_of_the_vocabulary(network: Whisper, student: Whisper, states: Tensor) -> None:
    start, rules = torch.tensor([VOCABULARY.start("en", "transcribe", True)] * BATCH), rules_for(True, Rules)
    listed = torch.cat((torch.arange(0, 50257, 2), torch.arange(50257, VOCABULARY.size)))
    expected = greedy(network, states, start, rules, STEPS)
    found, _ = decode_batch(
        network, states, start, rules, make_draft=maker(student, rules, listed), blocks=(4,), max_new_tokens=STEPS
    )
    assert same(found, expected)
    with pytest.raises(ValueError, match="end of text"):
        rules.among(torch.arange(10))


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_slots_are_taken_by_the_next_window(
    network: Whisper, student: Whisper, states: Tensor, size: int, exact: bool
) -> None:
    """Windows with prompts of different lengths, decoded in few slots, are those decoded alone."""
    rules = rules_for(True)
    starts = [
        (*range(60, 60 + 3 * row), *VOCABULARY.start(language, "transcribe", True))
        for row, language in enumerate(["en", "de", "en", "es", "zh"])
    ]
    alone = [
        greedy(network, states[row : row + 1], torch.tensor([starts[row]]), rules, STEPS)[0] for row in range(BATCH)
    ]
    pool = Pool(network, rules, size, 0, maker(student, rules), (4,), exact)
    found = pool.run([Job(states[row], starts[row], max_new_tokens=STEPS) for row in range(BATCH)])
    assert same(found, alone)
    for one, other in zip(found, alone, strict=True):
        assert one.observed.allowed.tolist() == pytest.approx(other.observed.allowed.tolist(), abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_exact_blocks_are_equal_to_the_last_bit(
    random_checkpoint: Checkpoint, student: Whisper, states: Tensor, dtype: torch.dtype
) -> None:
    """Same slots, more windows than slots: whatever is proposed, hidden states and log-probabilities are the same."""
    network = Whisper.from_state(random_checkpoint.dims, random_checkpoint.state, dtype)
    rules, heard = rules_for(True), states.to(dtype)

    def decoded(make: Callable[[int, int], Draft]) -> list[Decoded]:
        pool = Pool(network, rules, 3, 2, make, (4,), True)
        return pool.run([Job(heard[row], VOCABULARY.start("en", "transcribe", True)) for row in range(BATCH)])

    plain, drafted = decoded(lambda size, capacity: Nobody()), decoded(maker(student, rules))
    assert same(plain, drafted)
    for one, other in zip(plain, drafted, strict=True):
        assert torch.equal(one.observed.hidden, other.observed.hidden)
        assert torch.equal(one.observed.allowed, other.observed.allowed)


def test_sampling_with_a_draft_is_sampling_without(network: Whisper, student: Whisper, states: Tensor) -> None:
    """Same seed, same text, in whatever batch; another seed, another text."""
    rules = rules_for(True)

    def sampled(size: int, blocks: tuple[int, ...], seed: int) -> list[tuple[int, ...]]:
        pool = Pool(network, rules, size, 0, maker(student, rules), blocks)
        start = VOCABULARY.start("en", "transcribe", True)
        jobs = [
            Job(states[row], start, temperature=0.25 * row, key=seed + row, max_new_tokens=STEPS)
            for row in range(BATCH)
        ]
        return [one.tokens for one in pool.run(jobs)]

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
    rules = rules_for(True, Rules)
    states = states[:, ::HEARD_TOGETHER].repeat_interleave(HEARD_TOGETHER, 1)
    pool = Pool(network, rules, BATCH, 0, maker(network, rules), blocks)
    if len(blocks) > 1:
        chosen = iter([*[1] * 9, 4, 1, 8, 16, 1, 1, 1, 4, *[4, 1, 8] * 100])
        pool._pace.choose = lambda rows: next(chosen)  # type: ignore[method-assign]
    start = VOCABULARY.start("en", "transcribe", True)
    jobs = [
        Job(states[row], (*range(60, 60 + extra), *start), temperature=temperature, key=row, max_new_tokens=most)
        for row, (extra, most) in enumerate(zip(prompts, (4, 40, 40, 6, 40), strict=True))
    ]
    asked, note = [], pool._pace.note

    def noted(block: int, rows: int, seconds: float, accepted: int, looked_at: int) -> None:
        asked.append((accepted, looked_at))
        note(block, rows, seconds, accepted, looked_at)

    pool._pace.note = noted  # type: ignore[method-assign]
    pool.run(jobs)
    accepted, looked_at = (sum(column) for column in zip(*asked, strict=True))
    assert accepted > 20
    # Behind the last token of a window nothing is accepted, though it was right.
    assert looked_at - accepted <= BATCH


def test_what_a_draft_has_read_moves_with_its_row(student: Whisper, states: Tensor) -> None:
    draft = StudentDraft(student.decoder, 3, 1500, 456, rules_for(False), None)
    for row, length in enumerate((9, 5, 3)):
        draft.put([row], states[row : row + 1], torch.arange(length)[None])
    draft.keep(torch.tensor([2, 1]))
    assert draft._read[:2].tolist() == [2, 4]


def test_blocks_of_nothing_are_refused(network: Whisper, states: Tensor) -> None:
    start = torch.tensor([VOCABULARY.start("en")] * BATCH)
    with pytest.raises(ValueError, match="blocks must be at least 1"):
        decode_batch(network, states, start, rules_for(False), make_draft=lambda size, capacity: Nobody(), blocks=(0,))
    with pytest.raises(ValueError, match="without a draft"):
        decode_batch(network, states, start, rules_for(False), blocks=(4,))


def test_control_a_spoiled_slot_is_noticed(network: Whisper, states: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    rules, start = rules_for(False), torch.tensor([VOCABULARY.start("en")] * BATCH)
    expected = greedy(network, states, start, rules, STEPS)
    extend = Slots.extend

    def spoiled(self: Slots, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = extend(self, layer, key, value)
        values[-1, :, 2] += 1.0
        return keys, values

    monkeypatch.setattr(Slots, "extend", spoiled)
    found, _ = decode_batch(
        network, states, start, rules, max_new_tokens=STEPS, make_draft=lambda size, capacity: Nobody(), blocks=(8,)
    )
    assert not same(found, expected)
