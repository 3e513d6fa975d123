"""`sequential`: openai/whisper's way through a long recording.

Each window begins where the last whole segment of the one before ended, and has the text before it as a prompt. So no
word is cut, and names and style carry over; but a window waits for the one before, and a loop in the text before can
carry over as well: text that needed a high temperature is no prompt (`prompt_reset_on_temperature`). Windows of other
recordings are decoded meanwhile.
"""

from whisperstill.audio.reader import Reader
from whisperstill.decode.plans import Plan, Setting
from whisperstill.decode.transcript import is_silent
from whisperstill.decode.windows import Heard, Spoken, Window
from whisperstill.text.vocabulary import Vocabulary
from whisperstill.units import MAX_PROMPT_TOKENS, SAMPLE_RATE

SHORTEST = 0.1
"""Seconds: less than this at a recording's end is no window of its own."""


class Sequential(Plan):
    """One window of `length` seconds after the other."""

    def __init__(self, setting: Setting, spoken: Spoken, reader: Reader, length: float) -> None:
        super().__init__(setting, spoken, reader)
        self._length = length
        self._seek, self._waits, self._ended = 0.0, False, False
        self._said: list[int] = []
        """The last tokens, which may be a prompt."""

    def next(self) -> Window | None:
        """See `Plan`."""
        if self._waits or self._ended:
            return None
        self.reader.forget(self._seek)
        waveform = self.reader.stretch(self._seek, self._length)
        if len(waveform) <= SHORTEST * SAMPLE_RATE and self._seek:
            self._ended = True
            return None
        self._waits = True
        prefix = () if self._seek else self.setting.prefix
        return self.window(self._seek, waveform, self._prompt(), prefix)

    def take(self, heard: Heard) -> None:
        """See `Plan`."""
        self._waits = False
        options, window = self.setting.options, heard.window
        on = window.duration
        if not is_silent(heard.recognised, options):
            tokens = heard.recognised.decoded.tokens
            on = heard_to(tokens, window.duration, self.setting.recogniser.vocabulary)
        self._seek = round(window.start + on, 3)  # as segments' times are
        segments = self.found(heard, self._seek)
        self.settle(segments)
        if not self.setting.conditions or heard.temperature > options.prompt_reset_on_temperature:
            self._said = []
        else:
            said = [token for segment in segments for token in segment.tokens]
            self._said = [*(self._said or self.setting.initial), *said][-MAX_PROMPT_TOKENS:]
        self._ended = not self.reader.goes_beyond(self._seek)

    @property
    def finished(self) -> bool:
        """See `Plan`."""
        return self._ended and not self._waits

    def _prompt(self) -> tuple[int, ...]:
        if not self._said:
            return self.setting.prompt
        return self.setting.recogniser.prompt_of(self._said, self.setting.options.hotwords)


def heard_to(tokens: tuple[int, ...], duration: float, vocabulary: Vocabulary) -> float:
    """Seconds of a window after which the next one begins, above 0.

    Where a segment is opened and not finished, or none is open but several were finished, that is the last timestamp;
    after a single segment and a window heard to its end, the window's end.
    """
    times = [vocabulary.is_timestamp(token) for token in tokens]
    pairs = [at for at in range(1, len(times)) if times[at] and times[at - 1]]
    closed = len(times) >= 2 and times[-1] and not times[-2]
    last = 0.0
    if pairs and not closed:
        last = vocabulary.timestamp_seconds(tokens[pairs[-1] - 1])
    return last if 0 < last < duration else duration
