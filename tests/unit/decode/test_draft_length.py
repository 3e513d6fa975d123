"""How long a draft should be."""

import pytest

from whisperstill.decode.generate.draft_length import BLOCK_SIZES, DraftLengthController


def costs(verify: float, draft: float, block: int) -> float:
    return draft * (block - 1) + verify * (1 + 0.02 * block)


def settled(acceptance: float, verify: float, draft: float, rows: int = 1) -> tuple[int, DraftLengthController]:
    """What is chosen most often in the second half of 400 blocks."""
    pace, chosen = DraftLengthController(), []
    for _ in range(400):
        block = pace.choose_block_size(rows)
        chosen.append(block)
        asked = 1000 * (block - 1)
        pace.update(block, rows, costs(verify, draft, block), round(acceptance * asked), asked)
    late = chosen[200:]
    return max(set(late), key=late.count), pace


@pytest.mark.parametrize(
    ("acceptance", "draft", "block"),
    [(0.99, 0.02, 16), (0.9, 0.1, 8), (0.75, 0.2, 4), (0.1, 0.5, 1), (0.0, 0.01, 1)],
)
def test_it_finds_what_gives_most_tokens_a_second(acceptance: float, draft: float, block: int) -> None:
    best = max(BLOCK_SIZES, key=lambda m: sum(acceptance**i for i in range(m)) / costs(1.0, draft, m))
    assert best == block  # the example is what it is meant to be
    assert settled(acceptance, 1.0, draft)[0] == best


def test_what_is_promising_is_tried() -> None:
    pace, chosen = DraftLengthController(), []
    for _ in range(300):
        block = pace.choose_block_size(2)
        chosen.append(block)
        pace.update(block, 2, 1.0, 9 * (block > 1), 10 * (block > 1))
    assert set(chosen) == set(BLOCK_SIZES)
    assert chosen.count(16) > 250  # a block costs the same: the longest one gives most


def test_what_cannot_pay_is_not_tried() -> None:
    """Each token costs as much as the first: a long draft that is often wrong need not be measured."""
    pace, chosen = DraftLengthController(), []
    for _ in range(300):
        block = pace.choose_block_size(16)
        chosen.append(block)
        pace.update(block, 16, 1.0 + block, 8 * (block > 1), 10 * (block > 1))
    assert 16 not in chosen


def test_other_numbers_of_rows_begin_with_what_is_known() -> None:
    block, pace = settled(0.1, 1.0, 0.5, rows=16)
    assert block == pace.choose_block_size(7) == pace.choose_block_size(1) == 1


def test_what_is_known_of_others_is_not_believed_for_long() -> None:
    """With 8 rows a block of 8 costs what one token does, with 2 rows six times as much."""
    pace, chosen = DraftLengthController(), []
    for rows, blocks in ((8, 200), (2, 200)):
        for _ in range(blocks):
            block = pace.choose_block_size(rows)
            chosen.append(block)
            pace.update(block, rows, 1.0 if rows == 8 or block < 8 else 6.0, 9 * (block > 1), 10 * (block > 1))
    assert chosen[:200].count(16) > 150
    assert chosen[200:].count(4) > 150


def test_what_changes_is_noticed() -> None:
    _, pace = settled(0.99, 1.0, 0.02)
    for _ in range(200):  # from now on the student is wrong
        block = pace.choose_block_size(1)
        asked = 1000 * (block - 1)
        pace.update(block, 1, costs(1.0, 0.02, block), round(0.05 * asked), asked)
    assert pace.choose_block_size(1) == 1


def test_a_hiccup_is_no_news() -> None:
    usual, pace = settled(0.9, 1.0, 0.1)
    pace.update(usual, 1, 1000.0, 900, 1000)
    chosen = []
    for _ in range(9):
        block = pace.choose_block_size(1)
        chosen.append(block)
        pace.update(block, 1, costs(1.0, 0.1, block), 900, 1000)
    assert chosen.count(usual) > 5


def test_one_choice_is_no_choice() -> None:
    assert DraftLengthController((1,)).choose_block_size(5) == 1
