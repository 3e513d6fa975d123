"""Speculative decoding = greedy decoding of the teacher, whoever proposes."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from whisperstill.decode.drafts import Draft, Nobody, StudentDraft
from whisperstill.decode.greedy import greedy
from whisperstill.decode.observed import Decoded
from whisperstill.decode.rules import History, Rules
from whisperstill.decode.speculative import speculative
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

    def propose(self, context: Tensor, position: Tensor, history: History, count: int) -> Tensor:
        """The next tokens of the script; zeros behind its end."""
        said = (position + context.shape[1] - self.prompt).tolist()
        found = []
        for row, at in zip(self.rows.tolist(), said, strict=True):
            rest = self.lines[row][at : at + count]
            found.append(rest + [0] * (count - len(rest)))
        return torch.tensor(found)

    def keep(self, rows: Tensor) -> None:
        """Follow the rows."""
        self.rows = self.rows[rows]


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


def same(found: list[Decoded], expected: list[Decoded]) -> bool:
    return [(one.tokens, one.ended) for one in found] == [(one.tokens, one.ended) for one in expected]


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
) -> None:
    rules = rules_for(timestamps)
    line = (*prompt, *VOCABULARY.start("en", "transcribe", timestamps))
    start = torch.tensor([line] * BATCH)
    expected = greedy(network, states, start, rules, max_new_tokens=STEPS)
    truth = [[*one.tokens, VOCABULARY.end_of_text] for one in expected]
    shuffled = torch.Generator().manual_seed(1)

    def draft(capacity: int) -> Draft:
        match who:
            case "student":
                return StudentDraft(student, states, start, rules, capacity)
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

    found, counts = speculative(network, states, start, rules, draft, block=block, max_new_tokens=STEPS, top=3)
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
    found, _ = speculative(
        network, states, start, rules, lambda capacity: StudentDraft(student, states, start, rules, capacity), block=4,
        max_new_tokens=STEPS,
    )  # fmt: skip
    assert same(found, greedy(network, states, start, rules, max_new_tokens=STEPS))


def test_the_end_of_the_positions(network: Whisper, student: Whisper, states: Tensor) -> None:
    """Blocks grow shorter where the network's positions end."""
    line = (50361, *range(100, 540 - 100), *VOCABULARY.start("en"))[-436:]
    line = (*line[:-4], *VOCABULARY.start("en"))
    start = torch.tensor([line] * 2)
    rules = rules_for(False, Rules)
    found, _ = speculative(
        network, states[:2], start, rules, lambda capacity: StudentDraft(student, states[:2], start, rules, capacity)
    )
    assert same(found, greedy(network, states[:2], start, rules))
    assert {len(one.tokens) for one in found} == {448 - len(line)}


def test_a_block_of_nothing_is_refused(network: Whisper, states: Tensor) -> None:
    start = torch.tensor([VOCABULARY.start("en")] * BATCH)
    with pytest.raises(ValueError, match="block must be at least 1, got 0"):
        speculative(network, states, start, rules_for(False), lambda capacity: Nobody(), block=0)


def test_control_a_spoiled_slot_is_noticed(network: Whisper, states: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    rules, start = rules_for(False), torch.tensor([VOCABULARY.start("en")] * BATCH)
    expected = greedy(network, states, start, rules, max_new_tokens=STEPS)
    extend = Slots.extend

    def spoiled(self: Slots, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = extend(self, layer, key, value)
        values[-1, :, 2] += 1.0
        return keys, values

    monkeypatch.setattr(Slots, "extend", spoiled)
    found, _ = speculative(network, states, start, rules, lambda capacity: Nobody(), max_new_tokens=STEPS)
    assert not same(found, expected)
