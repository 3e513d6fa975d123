"""How long a draft should be, learnt while decoding.

A block of M tokens is M - 1 proposals and a verification. It gives 1 + a + a² + ... + a^(M-1) tokens where each
proposal stands with probability a, and costs (M - 1) draft steps and one verification of M tokens. Which M gives most
tokens a second depends on the networks, the machine, the number of rows and on what is being said, so all of it is
measured as it goes; M = 1, no draft at all, is one of the choices. What is chosen can change only the speed.
"""

from dataclasses import dataclass, field

BLOCKS = (4, 1, 8, 16)
"""In the order in which they are tried. Matrix products of 2 or 3 rows cost as much as those of 4, or more."""
MEMORY = 0.9
"""What is left of an old measurement's weight after a new one."""
AGAIN = 48
"""Blocks until a choice not taken, but nearly as good, is measured again."""
NEARLY = 0.8
"""Share of the best rate that is nearly as good."""
HOPE = 1.1
"""How much better than its guessed rate a block that was never tried may turn out."""

PATIENCE = 16
"""Blocks for which a number of rows makes do with what is known of another one, before it is measured itself."""


@dataclass
class _Mean:
    """A running mean that forgets."""

    value: float = 0.0
    weight: float = 0.0

    def add(self, value: float, weight: float = 1.0) -> None:
        total = MEMORY * self.weight + weight
        if total > 0:
            self.value += (value - self.value) * weight / total
            self.weight = total


@dataclass
class Pace:
    """Chooses the length of the next block."""

    blocks: tuple[int, ...] = BLOCKS
    """The first two are tried, what the others cost is guessed until they are promising."""
    _accepted: _Mean = field(default_factory=_Mean)
    _seconds: dict[int, dict[int, _Mean]] = field(default_factory=dict)
    """By rows (`_near`) and block: draft and verification together."""
    _since: dict[tuple[int, int], int] = field(default_factory=dict)
    _seen: dict[int, int] = field(default_factory=dict)
    """Blocks of about so many rows (`_near`)."""
    _turn: int = 0

    def choose(self, rows: int) -> int:
        """Tokens of the next block for this many rows."""
        self._turn += 1
        if len(self.blocks) == 1:
            return self.blocks[0]
        near = _near(rows)
        self._seen[near] = self._seen.get(near, 0) + 1
        costs = self._costs(near)
        if costs is None:
            others = self._costs_of_others(near) if self._seen[near] <= PATIENCE else None
            if others is not None:
                return max(others, key=lambda block: self.tokens(block) / others[block])
            return next(block for block in self.blocks[:2] if not self._is_known(near, block))
        rates = {block: self.tokens(block) / seconds for block, seconds in costs.items()}
        best = max(rates, key=lambda block: rates[block])
        guessed = [block for block in self.blocks if block not in costs]
        promising = [block for block in guessed if HOPE * self.tokens(block) / self._guess(costs, block) > rates[best]]
        if promising:
            return promising[0]
        stale = [
            block
            for block, rate in rates.items()
            if rate > NEARLY * rates[best] and self._turn - self._since.get((near, block), 0) > AGAIN
        ]
        return stale[0] if stale else best

    def tokens(self, block: int) -> float:
        """Tokens that a block may be expected to give a row."""
        a = self._accepted.value if self._accepted.weight else 0.7
        return sum(a**index for index in range(block))

    def note(self, block: int, rows: int, seconds: float, accepted: int, asked: int) -> None:
        """What a block took, and how many of the proposals that were looked at (up to the first wrong one) stood."""
        near = _near(rows)
        known = self._seconds.setdefault(near, {})
        if block not in known:
            known[block] = _Mean(seconds, 1.0)
        elif not self._is_known(near, block):  # what is done for the first time takes longer
            known[block] = _Mean(min(seconds, known[block].value), 2.0)
        else:
            # A hiccup of the machine is no news of the method.
            known[block].add(min(seconds, 1.5 * known[block].value))
        self._since[near, block] = self._turn
        if asked:
            self._accepted.add(accepted / asked, asked)

    def _is_known(self, near: int, block: int) -> bool:
        mean = self._seconds.get(near, {}).get(block)
        return mean is not None and mean.weight > 1.5

    def _costs(self, near: int) -> dict[int, float] | None:
        """Seconds of the blocks that were tried with about as many rows; None while too little is known."""
        if not all(self._is_known(near, block) for block in self.blocks[:2]):
            return None
        return {block: mean.value for block, mean in self._seconds[near].items() if self._is_known(near, block)}

    def _costs_of_others(self, near: int) -> dict[int, float] | None:
        """The same with the next fewer or more rows of which enough is known."""
        known = sorted(self._seconds, key=lambda other: abs(other - near))
        return next((costs for other in known if (costs := self._costs(other)) is not None), None)

    def _guess(self, costs: dict[int, float], block: int) -> float:
        """Seconds of a block that was not tried, on the line through the first two."""
        one, two = self.blocks[:2]
        slope = (costs[one] - costs[two]) / (one - two)
        return max(costs[one] + slope * (block - one), min(costs.values()))


def _near(rows: int) -> int:
    """Numbers of rows that cost about the same: 1, 2, 3-4, 5-8, 9-16 ..."""
    return (rows - 1).bit_length()
