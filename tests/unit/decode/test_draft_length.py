"""DraftLengthController."""

import pytest

from whisperstill.decode.generate.draft_length import BLOCK_SIZES, DraftLengthController


def costs(verify: float, draft: float, block: int) -> float:
    return draft * (block - 1) + verify * (1 + 0.02 * block)


def most_frequent_size(
    acceptance: float, verify: float, draft: float, rows: int = 1
) -> tuple[int, DraftLengthController]:
    """Block size chosen most often in the second half of 400 blocks, and the controller."""
    controller, chosen = DraftLengthController(), []
    for _ in range(400):
        block = controller.choose_block_size(rows)
        chosen.append(block)
        checked = 1000 * (block - 1)
        controller.update(block, rows, costs(verify, draft, block), round(acceptance * checked), checked)
    late = chosen[200:]
    return max(set(late), key=late.count), controller


@pytest.mark.parametrize(
    ("acceptance", "draft", "block"),
    [(0.99, 0.02, 16), (0.9, 0.1, 8), (0.75, 0.2, 4), (0.1, 0.5, 1), (0.0, 0.01, 1)],
)
def test_chooses_most_tokens_per_second(acceptance: float, draft: float, block: int) -> None:
    best = max(BLOCK_SIZES, key=lambda m: sum(acceptance**i for i in range(m)) / costs(1.0, draft, m))
    assert best == block  # the example is valid
    assert most_frequent_size(acceptance, 1.0, draft)[0] == best


def test_promising_sizes_are_tried() -> None:
    controller, chosen = DraftLengthController(), []
    for _ in range(300):
        block = controller.choose_block_size(2)
        chosen.append(block)
        controller.update(block, 2, 1.0, 9 * (block > 1), 10 * (block > 1))
    assert set(chosen) == set(BLOCK_SIZES)
    assert chosen.count(16) > 250  # all blocks take 1 s, so the longest is best


def test_unprofitable_sizes_are_not_tried() -> None:
    """Cost grows linearly with block size, so a long draft with rejections cannot pay off."""
    controller, chosen = DraftLengthController(), []
    for _ in range(300):
        block = controller.choose_block_size(16)
        chosen.append(block)
        controller.update(block, 16, 1.0 + block, 8 * (block > 1), 10 * (block > 1))
    assert 16 not in chosen


def test_new_batch_size_starts_with_known_costs() -> None:
    block, controller = most_frequent_size(0.1, 1.0, 0.5, rows=16)
    assert block == controller.choose_block_size(7) == controller.choose_block_size(1) == 1


def test_borrowed_costs_expire() -> None:
    """A block of 8 costs as much as one token with 8 rows, and six times as much with 2 rows."""
    controller, chosen = DraftLengthController(), []
    for rows, blocks in ((8, 200), (2, 200)):
        for _ in range(blocks):
            block = controller.choose_block_size(rows)
            chosen.append(block)
            controller.update(block, rows, 1.0 if rows == 8 or block < 8 else 6.0, 9 * (block > 1), 10 * (block > 1))
    assert chosen[:200].count(16) > 150
    assert chosen[200:].count(4) > 150


def test_adapts_to_lower_acceptance() -> None:
    _, controller = most_frequent_size(0.99, 1.0, 0.02)
    for _ in range(200):  # acceptance drops
        block = controller.choose_block_size(1)
        checked = 1000 * (block - 1)
        controller.update(block, 1, costs(1.0, 0.02, block), round(0.05 * checked), checked)
    assert controller.choose_block_size(1) == 1


def test_outlier_is_ignored() -> None:
    usual, controller = most_frequent_size(0.9, 1.0, 0.1)
    controller.update(usual, 1, 1000.0, 900, 1000)
    chosen = []
    for _ in range(9):
        block = controller.choose_block_size(1)
        chosen.append(block)
        controller.update(block, 1, costs(1.0, 0.1, block), 900, 1000)
    assert chosen.count(usual) > 5


def test_single_size() -> None:
    assert DraftLengthController((1,)).choose_block_size(5) == 1
