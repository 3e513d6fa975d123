"""`sequential`: openai/whisper's way through a long recording.

Each window begins where the last whole segment of the one before ended, and has the text before it as a prompt. So no
word is cut, and names and style carry over; but a window waits for the one before, and a loop in the text before can
carry over as well: text that needed a high temperature is no prompt (`prompt_reset_on_temperature`). Windows of other
recordings are decoded meanwhile.
"""

from whisperstill.audio.reader import AudioReader
from whisperstill.decode.longform.strategy import LongFormContext, LongFormStrategy
from whisperstill.decode.longform.window import AudioWindow, DetectedLanguage, WindowResult
from whisperstill.decode.output.transcript import is_silent
from whisperstill.decode.prompts import build_prompt
from whisperstill.text.vocabulary import Vocabulary
from whisperstill.units import MAX_PROMPT_TOKENS, SAMPLE_RATE

MIN_WINDOW_S = 0.1
"""Seconds: less than this at a recording's end is no window of its own."""


class Sequential(LongFormStrategy):
    """One window of `length` seconds after the other."""

    def __init__(
        self, context: LongFormContext, detected_language: DetectedLanguage, reader: AudioReader, window_seconds: float
    ) -> None:
        super().__init__(context, detected_language, reader)
        self._window_seconds = window_seconds
        self._seek, self._awaiting_result, self._at_end = 0.0, False, False
        self._previous_tokens: list[int] = []
        """The last tokens, which may be a prompt."""

    def next_window(self) -> AudioWindow | None:
        """See `Plan`."""
        if self._awaiting_result or self._at_end:
            return None
        self.reader.discard_before(self._seek)
        waveform = self.reader.read(self._seek, self._window_seconds)
        if len(waveform) <= MIN_WINDOW_S * SAMPLE_RATE and self._seek:
            self._at_end = True
            return None
        self._awaiting_result = True
        prefix = () if self._seek else self.context.prefix
        return self.make_window(self._seek, waveform, self._prompt(), prefix)

    def on_result(self, result: WindowResult) -> None:
        """See `Plan`."""
        self._awaiting_result = False
        options, window = self.context.options, result.window
        seek_advance = window.duration
        if not is_silent(result.window_transcript, options):
            tokens = result.window_transcript.result.tokens
            seek_advance = next_seek(tokens, window.duration, self.context.model.vocabulary)
        self._seek = round(window.start + seek_advance, 3)  # as segments' times are
        segments = self.segments_from(result, self._seek)
        self.add_final_segments(segments)
        if not self.context.condition_on_previous_text or result.temperature > options.prompt_reset_on_temperature:
            self._previous_tokens = []
        else:
            new_tokens = [token for segment in segments for token in segment.tokens]
            self._previous_tokens = [*(self._previous_tokens or self.context.initial_prompt_tokens), *new_tokens][
                -MAX_PROMPT_TOKENS:
            ]
        self._at_end = not self.reader.has_audio_after(self._seek)

    @property
    def finished(self) -> bool:
        """See `Plan`."""
        return self._at_end and not self._awaiting_result

    def _prompt(self) -> tuple[int, ...]:
        if not self._previous_tokens:
            return self.context.prompt
        return build_prompt(self.context.model.tokenizer, self._previous_tokens, self.context.options.hotwords)


def next_seek(tokens: tuple[int, ...], duration: float, vocabulary: Vocabulary) -> float:
    """Seconds of a window after which the next one begins, above 0.

    Where a segment is opened and not finished, or none is open but several were finished, that is the last timestamp;
    after a single segment and a window heard to its end, the window's end.
    """
    timestamp_mask = [vocabulary.is_timestamp(token) for token in tokens]
    pair_indices = [
        index for index in range(1, len(timestamp_mask)) if timestamp_mask[index] and timestamp_mask[index - 1]
    ]
    single_timestamp_ending = len(timestamp_mask) >= 2 and timestamp_mask[-1] and not timestamp_mask[-2]
    last_timestamp = 0.0
    if pair_indices and not single_timestamp_ending:
        last_timestamp = vocabulary.timestamp_seconds(tokens[pair_indices[-1] - 1])
    return last_timestamp if 0 < last_timestamp < duration else duration
