"""Draft length: how many tokens to propose per verification, chosen from measurements while decoding.

A block of M tokens takes M - 1 draft steps and one verification. If each proposal is accepted with probability a, it
yields 1 + a + a² + ... + a^(M-1) tokens. The M with most tokens per second depends on the networks, the machine, the
number of rows and the audio, so acceptance and times are measured continuously. M = 1 means no draft. The choice
changes the speed only, never the output.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass

BLOCK_SIZES = (4, 1, 8, 16)
"""Block sizes in the order of trial. Matrix products of 2 or 3 rows are no faster than those of 4."""
EMA_DECAY = 0.9
"""Factor on the weight of older measurements at each new one."""
REMEASURE_AFTER_BLOCKS = 48
"""Blocks after which a block size that is nearly the best is measured again."""
REMEASURE_MIN_RELATIVE_RATE = 0.8
"""Fraction of the best rate from which a block size is nearly the best."""
UNTRIED_RATE_OPTIMISM = 1.1
"""Factor on the estimated rate of a block size that was never tried."""
MAX_BLOCKS_ON_BORROWED_COSTS = 16
"""Blocks for which the costs measured with another number of rows are used, before new ones are measured."""


@dataclass
class _DecayingMean:
    value: float = 0.0
    weight: float = 0.0

    def add(self, value: float, weight: float = 1.0) -> None:
        total_weight = EMA_DECAY * self.weight + weight
        self.value += (value - self.value) * weight / total_weight
        self.weight = total_weight


class DraftLengthController:
    """Chooses the size of the next block."""

    def __init__(self, block_sizes: tuple[int, ...] = BLOCK_SIZES) -> None:
        """The first two of `block_sizes` are always tried; costs of others are estimated until they are promising."""
        self.block_sizes = block_sizes
        self._acceptance_rate = _DecayingMean()
        self._block_seconds: defaultdict[int, dict[int, _DecayingMean]] = defaultdict(dict)
        """Seconds of a block, draft and verification, by row bucket and block size."""
        self._last_measured: dict[tuple[int, int], int] = {}
        """Value of `_step` by row bucket and block size."""
        self._num_blocks, self._step = Counter[int](), 0
        """Blocks decoded, by row bucket; and all of them."""

    def choose_block_size(self, num_rows: int) -> int:
        """Tokens of the next block, for a batch of `num_rows`."""
        self._step += 1
        if len(self.block_sizes) == 1:
            return self.block_sizes[0]
        bucket = _row_bucket(num_rows)
        self._num_blocks[bucket] += 1
        # 1. Costs for this number of rows are unknown: use those of a similar number for a while, then measure.
        costs = self._measured_costs(bucket)
        if not costs:
            nearest = sorted(self._block_seconds, key=lambda other_bucket: abs(other_bucket - bucket))
            borrowed_costs = next(filter(None, map(self._measured_costs, nearest)), None)
            if borrowed_costs and self._num_blocks[bucket] <= MAX_BLOCKS_ON_BORROWED_COSTS:
                rates = self._rates(borrowed_costs)
                return max(rates, key=rates.__getitem__)
            return next(size for size in self.block_sizes[:2] if not self._is_measured(bucket, size))
        rates = self._rates(costs)
        best_size = max(rates, key=rates.__getitem__)
        # 2. Try a new block size if its estimated rate, taken optimistically, is better.
        untried = {size: self._estimate_cost(costs, size) for size in self.block_sizes if size not in costs}
        for size, rate in self._rates(untried).items():
            if UNTRIED_RATE_OPTIMISM * rate > rates[best_size]:
                return size
        # 3. Measure nearly best block sizes again from time to time; otherwise take the best.
        for size, rate in rates.items():
            blocks_since = self._step - self._last_measured[bucket, size]
            if rate > REMEASURE_MIN_RELATIVE_RATE * rates[best_size] and blocks_since > REMEASURE_AFTER_BLOCKS:
                return size
        return best_size

    def update(self, block_size: int, num_rows: int, seconds: float, accepted: int, checked: int) -> None:
        """Record the seconds of a block, its accepted proposals, and those checked (up to the first rejected one)."""
        bucket = _row_bucket(num_rows)
        block_seconds = self._block_seconds[bucket]
        if block_size not in block_seconds:
            block_seconds[block_size] = _DecayingMean(seconds, 1.0)
        elif not self._is_measured(bucket, block_size):  # the first run of a shape takes longer
            block_seconds[block_size] = _DecayingMean(min(seconds, block_seconds[block_size].value), 2.0)
        else:
            # Limit the effect of outliers, such as interruptions by the operating system.
            block_seconds[block_size].add(min(seconds, 1.5 * block_seconds[block_size].value))
        self._last_measured[bucket, block_size] = self._step
        if checked:
            self._acceptance_rate.add(accepted / checked, checked)

    def _rates(self, costs: dict[int, float]) -> dict[int, float]:
        """Expected tokens per second and row by block size, from seconds by block size."""
        acceptance_rate = self._acceptance_rate.value if self._acceptance_rate.weight else 0.7
        return {size: sum(acceptance_rate**index for index in range(size)) / costs[size] for size in costs}

    def _is_measured(self, bucket: int, block_size: int) -> bool:
        mean = self._block_seconds[bucket].get(block_size)
        return mean is not None and mean.weight > 1.5

    def _measured_costs(self, bucket: int) -> dict[int, float]:
        """Measured seconds by block size; empty until the first two sizes are measured."""
        means = self._block_seconds[bucket]
        costs = {size: mean.value for size, mean in means.items() if self._is_measured(bucket, size)}
        return costs if costs.keys() >= set(self.block_sizes[:2]) else {}

    def _estimate_cost(self, costs: dict[int, float], block_size: int) -> float:
        """Estimated seconds of an untried block size, on the line through the first two sizes."""
        first, second = self.block_sizes[:2]
        slope = (costs[first] - costs[second]) / (first - second)
        return max(costs[first] + slope * (block_size - first), min(costs.values()))


def _row_bucket(num_rows: int) -> int:
    """Index of the row bucket; buckets of similar cost are 1, 2, 3-4, 5-8, 9-16 ... rows."""
    return (num_rows - 1).bit_length()
