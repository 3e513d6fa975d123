"""How long a draft should be, learnt while decoding.

A block of M tokens is M - 1 proposals and a verification. It gives 1 + a + a² + ... + a^(M-1) tokens where each
proposal stands with probability a, and costs (M - 1) draft steps and one verification of M tokens. Which M gives most
tokens a second depends on the networks, the machine, the number of rows and on what is being said, so all of it is
measured as it goes; M = 1, no draft at all, is one of the choices. What is chosen can change only the speed.
"""

from dataclasses import dataclass, field

BLOCK_SIZES = (4, 1, 8, 16)
"""In the order in which they are tried. Matrix products of 2 or 3 rows cost as much as those of 4, or more."""
EMA_DECAY = 0.9
"""What is left of an old measurement's weight after a new one."""
REMEASURE_AFTER_BLOCKS = 48
"""Blocks until a choice not taken, but nearly as good, is measured again."""
REMEASURE_MIN_RELATIVE_RATE = 0.8
"""Share of the best rate that is nearly as good."""
UNTRIED_RATE_OPTIMISM = 1.1
"""How much better than its guessed rate a block that was never tried may turn out."""

MAX_BLOCKS_ON_BORROWED_COSTS = 16
"""Blocks for which a number of rows makes do with what is known of another one, before it is measured itself."""


@dataclass
class _DecayingMean:
    """A running mean that forgets."""

    value: float = 0.0
    weight: float = 0.0

    def add(self, value: float, weight: float = 1.0) -> None:
        total_weight = EMA_DECAY * self.weight + weight
        if total_weight > 0:
            self.value += (value - self.value) * weight / total_weight
            self.weight = total_weight


@dataclass
class DraftLengthController:
    """Chooses the length of the next block."""

    block_sizes: tuple[int, ...] = BLOCK_SIZES
    """The first two are tried, what the others cost is guessed until they are promising."""
    _acceptance_rate: _DecayingMean = field(default_factory=_DecayingMean)
    _block_seconds: dict[int, dict[int, _DecayingMean]] = field(default_factory=dict)
    """By rows (`_row_bucket`) and block: draft and verification together."""
    _last_measured: dict[tuple[int, int], int] = field(default_factory=dict)
    _num_blocks: dict[int, int] = field(default_factory=dict)
    """Blocks of about so many rows (`_row_bucket`)."""
    _step: int = 0

    def choose_block_size(self, num_rows: int) -> int:
        """Tokens of the next block for this many rows."""
        self._step += 1
        if len(self.block_sizes) == 1:
            return self.block_sizes[0]
        bucket = _row_bucket(num_rows)
        self._num_blocks[bucket] = self._num_blocks.get(bucket, 0) + 1
        costs = self._measured_costs(bucket)
        if costs is None:
            borrowed_costs = (
                self._nearest_measured_costs(bucket)
                if self._num_blocks[bucket] <= MAX_BLOCKS_ON_BORROWED_COSTS
                else None
            )
            if borrowed_costs is not None:
                return max(
                    borrowed_costs, key=lambda block_size: self.expected_tokens(block_size) / borrowed_costs[block_size]
                )
            return next(block_size for block_size in self.block_sizes[:2] if not self._is_measured(bucket, block_size))
        rates = {block_size: self.expected_tokens(block_size) / seconds for block_size, seconds in costs.items()}
        best_size = max(rates, key=lambda block_size: rates[block_size])
        untried = [block_size for block_size in self.block_sizes if block_size not in costs]
        promising = [
            block_size
            for block_size in untried
            if UNTRIED_RATE_OPTIMISM * self.expected_tokens(block_size) / self._estimate_cost(costs, block_size)
            > rates[best_size]
        ]
        if promising:
            return promising[0]
        stale = [
            block_size
            for block_size, rate in rates.items()
            if rate > REMEASURE_MIN_RELATIVE_RATE * rates[best_size]
            and self._step - self._last_measured.get((bucket, block_size), 0) > REMEASURE_AFTER_BLOCKS
        ]
        return stale[0] if stale else best_size

    def expected_tokens(self, block_size: int) -> float:
        """Tokens that a block may be expected to give a row."""
        acceptance_rate = self._acceptance_rate.value if self._acceptance_rate.weight else 0.7
        return sum(acceptance_rate**index for index in range(block_size))

    def update(self, block_size: int, num_rows: int, seconds: float, accepted: int, checked: int) -> None:
        """What a block took, and how many of the proposals that were looked at (up to the first wrong one) stood."""
        bucket = _row_bucket(num_rows)
        block_seconds = self._block_seconds.setdefault(bucket, {})
        if block_size not in block_seconds:
            block_seconds[block_size] = _DecayingMean(seconds, 1.0)
        elif not self._is_measured(bucket, block_size):  # what is done for the first time takes longer
            block_seconds[block_size] = _DecayingMean(min(seconds, block_seconds[block_size].value), 2.0)
        else:
            # A hiccup of the machine is no news of the method.
            block_seconds[block_size].add(min(seconds, 1.5 * block_seconds[block_size].value))
        self._last_measured[bucket, block_size] = self._step
        if checked:
            self._acceptance_rate.add(accepted / checked, checked)

    def _is_measured(self, bucket: int, block_size: int) -> bool:
        mean = self._block_seconds.get(bucket, {}).get(block_size)
        return mean is not None and mean.weight > 1.5

    def _measured_costs(self, bucket: int) -> dict[int, float] | None:
        """Seconds of the blocks that were tried with about as many rows; None while too little is known."""
        if not all(self._is_measured(bucket, block_size) for block_size in self.block_sizes[:2]):
            return None
        return {
            block_size: mean.value
            for block_size, mean in self._block_seconds[bucket].items()
            if self._is_measured(bucket, block_size)
        }

    def _nearest_measured_costs(self, bucket: int) -> dict[int, float] | None:
        """The same with the next fewer or more rows of which enough is known."""
        buckets = sorted(self._block_seconds, key=lambda other_bucket: abs(other_bucket - bucket))
        return next(
            (costs for other_bucket in buckets if (costs := self._measured_costs(other_bucket)) is not None), None
        )

    def _estimate_cost(self, costs: dict[int, float], block_size: int) -> float:
        """Seconds of a block that was not tried, on the line through the first two."""
        first, second = self.block_sizes[:2]
        slope = (costs[first] - costs[second]) / (first - second)
        return max(costs[first] + slope * (block_size - first), min(costs.values()))


def _row_bucket(num_rows: int) -> int:
    """Numbers of rows that cost about the same: 1, 2, 3-4, 5-8, 9-16 ..."""
    return (num_rows - 1).bit_length()
