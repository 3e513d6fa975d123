"""Draft length: how many tokens to propose per verification, chosen from measurements while decoding.

A block of M tokens takes M - 1 draft steps and one verification. If each proposal is accepted with probability a, it
yields 1 + a + a² + ... + a^(M-1) tokens. The M with most tokens per second depends on the networks, the machine, the
number of rows and the audio, so acceptance and times are measured continuously. M = 1 means no draft. The choice
changes the speed only, never the output.
"""

from dataclasses import dataclass, field

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
    """Exponentially weighted mean."""

    value: float = 0.0
    weight: float = 0.0

    def add(self, value: float, weight: float = 1.0) -> None:
        total_weight = EMA_DECAY * self.weight + weight
        if total_weight > 0:
            self.value += (value - self.value) * weight / total_weight
            self.weight = total_weight


@dataclass
class DraftLengthController:
    """Chooses the size of the next block."""

    block_sizes: tuple[int, ...] = BLOCK_SIZES
    """The first two are always tried; the costs of the others are estimated until they are promising."""
    _acceptance_rate: _DecayingMean = field(default_factory=_DecayingMean)
    _block_seconds: dict[int, dict[int, _DecayingMean]] = field(default_factory=dict)
    """Seconds of a block, draft and verification, by row bucket and block size."""
    _last_measured: dict[tuple[int, int], int] = field(default_factory=dict)
    """Value of `_step` by row bucket and block size."""
    _num_blocks: dict[int, int] = field(default_factory=dict)
    """Blocks decoded, by row bucket."""
    _step: int = 0

    def choose_block_size(self, num_rows: int) -> int:
        """Tokens of the next block, for a batch of `num_rows`."""
        self._step += 1
        if len(self.block_sizes) == 1:
            return self.block_sizes[0]
        bucket = _row_bucket(num_rows)
        self._num_blocks[bucket] = self._num_blocks.get(bucket, 0) + 1
        # 1. Costs for this number of rows are unknown: use those of a similar number for a while, then measure.
        costs = self._measured_costs(bucket)
        if costs is None:
            may_borrow = self._num_blocks[bucket] <= MAX_BLOCKS_ON_BORROWED_COSTS
            borrowed_costs = self._nearest_measured_costs(bucket) if may_borrow else None
            if borrowed_costs is not None:
                rates = self._rates(borrowed_costs)
                return max(rates, key=lambda block_size: rates[block_size])
            return next(block_size for block_size in self.block_sizes[:2] if not self._is_measured(bucket, block_size))
        rates = self._rates(costs)
        best_size = max(rates, key=lambda block_size: rates[block_size])
        # 2. Try a new block size if its estimated rate, taken optimistically, is better.
        untried = [block_size for block_size in self.block_sizes if block_size not in costs]
        promising = [
            block_size
            for block_size in untried
            if UNTRIED_RATE_OPTIMISM * self.expected_tokens(block_size) / self._estimate_cost(costs, block_size)
            > rates[best_size]
        ]
        if promising:
            return promising[0]
        # 3. Measure nearly best block sizes again from time to time; otherwise take the best.
        stale = [
            block_size
            for block_size, rate in rates.items()
            if rate > REMEASURE_MIN_RELATIVE_RATE * rates[best_size]
            and self._step - self._last_measured.get((bucket, block_size), 0) > REMEASURE_AFTER_BLOCKS
        ]
        return stale[0] if stale else best_size

    def expected_tokens(self, block_size: int) -> float:
        """Expected tokens per row from a block of this size."""
        acceptance_rate = self._acceptance_rate.value if self._acceptance_rate.weight else 0.7
        return sum(acceptance_rate**index for index in range(block_size))

    def _rates(self, costs: dict[int, float]) -> dict[int, float]:
        """Expected tokens per second and row by block size, from seconds by block size."""
        return {block_size: self.expected_tokens(block_size) / seconds for block_size, seconds in costs.items()}

    def update(self, block_size: int, num_rows: int, seconds: float, accepted: int, checked: int) -> None:
        """Record the seconds of a block, its accepted proposals, and those checked (up to the first rejected one)."""
        bucket = _row_bucket(num_rows)
        block_seconds = self._block_seconds.setdefault(bucket, {})
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

    def _is_measured(self, bucket: int, block_size: int) -> bool:
        mean = self._block_seconds.get(bucket, {}).get(block_size)
        return mean is not None and mean.weight > 1.5

    def _measured_costs(self, bucket: int) -> dict[int, float] | None:
        """Measured seconds by block size; None until the first two sizes are measured."""
        if not all(self._is_measured(bucket, block_size) for block_size in self.block_sizes[:2]):
            return None
        return {
            block_size: mean.value
            for block_size, mean in self._block_seconds[bucket].items()
            if self._is_measured(bucket, block_size)
        }

    def _nearest_measured_costs(self, bucket: int) -> dict[int, float] | None:
        """`_measured_costs` of the nearest row bucket that has them."""
        buckets = sorted(self._block_seconds, key=lambda other_bucket: abs(other_bucket - bucket))
        return next(
            (costs for other_bucket in buckets if (costs := self._measured_costs(other_bucket)) is not None), None
        )

    def _estimate_cost(self, costs: dict[int, float], block_size: int) -> float:
        """Estimated seconds of an untried block size, on the line through the first two sizes."""
        first, second = self.block_sizes[:2]
        slope = (costs[first] - costs[second]) / (first - second)
        return max(costs[first] + slope * (block_size - first), min(costs.values()))


def _row_bucket(num_rows: int) -> int:
    """Index of the row bucket; buckets of similar cost are 1, 2, 3-4, 5-8, 9-16 ... rows."""
    return (num_rows - 1).bit_length()
