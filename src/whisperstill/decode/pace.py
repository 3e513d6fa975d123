"""How long a draft should be, learnt while decoding.

A block of M tokens is M - 1 proposals and a verification. It gives 1 + a + a² + ... + a^(M-1) tokens where each
proposal stands with probability a, and costs (M - 1) draft steps and one verification of M tokens. Which M gives most
tokens a second depends on the networks, the machine, the number of rows and on what is being said, so all of it is
measured as it goes; M = 1, no draft at all, is one of the choices. What is chosen can change only the speed.
"""

from dataclasses import dataclass, field

BLOCKS = (4, 8, 1, 16)
"""In the order in which they are tried. Matrix products of 2 or 3 rows cost as much as those of 4, or more."""
MEMORY = 0.9
"""What is left of an old measurement's weight after a new one."""
AGAIN = 48
"""Blocks until the choices not taken are measured again."""


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
    _accepted: _Mean = field(default_factory=_Mean)
    _seconds: dict[tuple[int, int], _Mean] = field(default_factory=dict)
    """Of a block of (M, rows), draft and verification together."""
    _since: dict[tuple[int, int], int] = field(default_factory=dict)
    _turn: int = 0

    def choose(self, rows: int) -> int:
        """Tokens of the next block for this many rows."""
        self._turn += 1
        if len(self.blocks) == 1:
            return self.blocks[0]
        near = _near(rows)
        for block in self.blocks:  # each is tried twice: what is done for the first time takes longer
            seconds = self._seconds.get((block, near))
            if seconds is None or seconds.weight < 1.5:
                return block
        best = max(self.blocks, key=lambda block: self.tokens(block) / self._seconds[block, near].value)
        stale = [
            block
            for block in self.blocks
            if self._turn - self._since.get((block, near), 0) > AGAIN
            and self.tokens(block) / self._seconds[block, near].value > 0.6 * self._rate(best, near)
        ]
        return stale[0] if stale else best

    def tokens(self, block: int) -> float:
        """Tokens that a block may be expected to give a row."""
        a = self._accepted.value if self._accepted.weight else 0.7
        return sum(a**index for index in range(block))

    def note(self, block: int, rows: int, seconds: float, accepted: int, asked: int) -> None:
        """What a block took, and how many of the proposals that were looked at (up to the first wrong one) stood."""
        key = (block, _near(rows))
        if key not in self._seconds:
            self._seconds[key] = _Mean(seconds, 1.0)
        elif self._seconds[key].weight < 1.5:
            self._seconds[key] = _Mean(min(seconds, self._seconds[key].value), 2.0)
        else:
            # A hiccup of the machine is no news of the method.
            self._seconds[key].add(min(seconds, 1.5 * self._seconds[key].value))
        self._since[key] = self._turn
        if asked:
            self._accepted.add(accepted / asked, asked)

    def _rate(self, block: int, near: int) -> float:
        return self.tokens(block) / self._seconds[block, near].value


def _near(rows: int) -> int:
    """Numbers of rows that cost about the same: 1, 2, 3-4, 5-8, 9-16 ..."""
    return (rows - 1).bit_length()
