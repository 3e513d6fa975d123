"""The vectorized path equals that of a double loop."""

from itertools import product

import pytest
import torch
from torch import Tensor

from whisperstill.decode.word_timestamps import dtw
from whisperstill.decode.word_timestamps.dtw import MEDIAN_FILTER_WIDTH, alignment_matrix, median_filter, token_starts


def slow_path(gain: Tensor) -> tuple[list[int], float]:
    """Dynamic time warping cell by cell: start of each token, and sum of the path."""
    tokens, positions = gain.shape
    best = [[float("-inf")] * positions for _ in range(tokens)]
    came: dict[tuple[int, int], tuple[int, int]] = {}
    for i in range(tokens):
        for j in range(positions):
            ways = [(best[a][b], (a, b)) for a, b in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if a >= 0 and b >= 0]
            value, before = max(ways, default=(0.0, (-1, -1)))
            best[i][j], came[i, j] = value + float(gain[i, j]), before
    starts = [0] * tokens
    cell = (tokens - 1, positions - 1)
    while cell != (-1, -1):
        starts[cell[0]] = cell[1]
        cell = came[cell]
    return starts, best[-1][-1]


def collected(gain: Tensor, starts: list[int]) -> float:
    """Sum of the path with these starts: a token ends where, or right before, the next one begins."""
    total = 0.0
    for i, begin in enumerate(starts):
        end = starts[i + 1] if i + 1 < len(starts) else gain.shape[1]
        row = gain[i].double()
        shared = float(row[end]) if i + 1 < len(starts) else 0.0
        before = float(row[begin:end].sum())
        total += before + shared if end == begin else before + max(shared, 0.0)
    return total


@pytest.mark.parametrize("seed", range(6))
def test_paths_of_a_batch_are_those_of_a_double_loop(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    tokens, positions = [4, 9, 1, 12, 7], [30, 9, 17, 40, 3]
    gain = torch.full((5, 12, 40), 1e3)  # values outside a row must not be read
    for row, (count, width) in enumerate(zip(tokens, positions, strict=True)):
        gain[row, :count, :width] = torch.randn(count, width, generator=generator)
    starts_by_row = token_starts(gain, tokens, positions).tolist()
    for row, (count, width) in enumerate(zip(tokens, positions, strict=True)):
        starts, value = slow_path(gain[row, :count, :width])
        assert starts_by_row[row][:count] == starts
        assert collected(gain[row, :count, :width], starts_by_row[row][:count]) == pytest.approx(value, abs=1e-4)
        assert starts_by_row[row][count:] == [width - 1] * (12 - count)


def test_a_diagonal_is_found_and_a_wrong_one_is_not() -> None:
    truth = [0, 10, 12, 30]
    gain = torch.full((1, 4, 40), -1.0)
    for token, (begin, end) in enumerate(zip(truth, [*truth[1:], 40], strict=True)):
        gain[0, token, begin:end] = 1.0
    assert token_starts(gain, [4], [40])[0].tolist() == truth
    assert token_starts(gain.flip(1), [4], [40])[0].tolist() != truth


def test_the_selection_network_selects_the_median_of_all_inputs() -> None:
    """The 0-1 principle: what is right for zeros and ones is right for all values."""
    values = torch.tensor(list(product([0.0, 1.0], repeat=MEDIAN_FILTER_WIDTH)))
    torch.testing.assert_close(
        median_filter(values)[:, MEDIAN_FILTER_WIDTH // 2], values.median(-1).values, rtol=0, atol=0
    )


def test_the_running_median_is_the_median_of_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.randn(3, 50, generator=torch.Generator().manual_seed(1))
    mirrored = torch.nn.functional.pad(values[None], (3, 3), mode="reflect")[0]
    expected = mirrored.unfold(1, MEDIAN_FILTER_WIDTH, 1).median(-1).values
    torch.testing.assert_close(median_filter(values), expected, rtol=0, atol=0)
    torch.testing.assert_close(median_filter(values[:, :3]), values[:, :3], rtol=0, atol=0)
    monkeypatch.setattr(dtw, "_MEDIAN_OF_7_EXCHANGES", dtw._MEDIAN_OF_7_EXCHANGES[1:])
    assert not torch.equal(median_filter(values), expected)


def test_gain_is_the_standard_score_over_the_tokens() -> None:
    scores = torch.randn(2, 5, 30, generator=torch.Generator().manual_seed(2))
    weights = (scores[0].softmax(-1) + scores[1].softmax(-1)) / 2
    expected = (weights - weights.mean(0)) / weights.std(0, correction=0)
    torch.testing.assert_close(alignment_matrix(scores), median_filter(expected), rtol=1e-5, atol=1e-4)


def test_equal_attention_of_all_tokens_has_no_gain() -> None:
    torch.testing.assert_close(alignment_matrix(torch.ones(2, 5, 30)), torch.zeros(5, 30), rtol=0, atol=0)
