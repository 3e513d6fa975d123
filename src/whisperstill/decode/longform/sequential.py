"""Strategy `sequential`: openai/whisper's sequential long-form transcription.

Each window begins where the last complete segment of the previous one ended, and is prompted with the preceding text.
No word is cut, and names and style carry over; but windows of one recording cannot be batched, and a loop can carry
over as well. Text that needed a high temperature is therefore not used as a prompt (`prompt_reset_on_temperature`).
"""

from whisperstill.decode.longform.hallucination_filter import is_silent
from whisperstill.decode.longform.segments import timestamp_pair_indices
from whisperstill.decode.longform.strategy import LongFormStrategy
from whisperstill.decode.longform.window import AudioWindow, WindowResult
from whisperstill.decode.prompts import tokenize_text
from whisperstill.text.vocabulary import Vocabulary
from whisperstill.units import MAX_PROMPT_TOKENS, SAMPLE_RATE

MIN_WINDOW_S = 0.1
"""Audio no longer than this at the end of a recording is not decoded."""


class Sequential(LongFormStrategy):
    """Decodes one window after the other."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._seek, self._awaiting_result, self._at_end = 0.0, False, False
        self._previous_tokens: list[int] = []
        """Last tokens of the transcript, the prompt of the next window."""

    def next_window(self) -> AudioWindow | None:
        """See `LongFormStrategy`."""
        if self._awaiting_result or self._at_end:
            return None
        self.reader.discard_before(self._seek)
        waveform = self.reader.read(self._seek, self.window_seconds)
        if len(waveform) <= MIN_WINDOW_S * SAMPLE_RATE and self._seek:
            self._at_end = True
            return None
        self._awaiting_result = True
        return self.make_window(self._seek, waveform, self._previous_tokens)

    def on_result(self, result: WindowResult) -> None:
        """See `LongFormStrategy`."""
        model, options, window = self.model, self.options, result.window
        self._awaiting_result = False
        self.update_language(result)
        # 1. Advance to the end of the last complete segment.
        seek_advance = window.duration
        if not is_silent(result.window_transcript, options):
            tokens = result.window_transcript.result.tokens
            seek_advance = next_seek(tokens, window.duration, model.vocabulary)
        self._seek = round(window.start + seek_advance, 3)  # rounded as segment times are
        segments = self.segments_from(result, self._seek)
        self.add_segments(segments)
        # 2. Extend the prompt, or reset it after a high temperature.
        condition = options.condition_on_previous_text
        if condition is None:
            condition = not model.trained_without_prompts
        if not condition or result.temperature > options.prompt_reset_on_temperature:
            self._previous_tokens = []
        else:
            previous_tokens = self._previous_tokens or tokenize_text(model.tokenizer, options.initial_prompt)
            new_tokens = [token for segment in segments for token in segment.tokens]
            self._previous_tokens = [*previous_tokens, *new_tokens][-MAX_PROMPT_TOKENS:]
        self._at_end = not self.reader.has_audio_after(self._seek)

    @property
    def finished(self) -> bool:
        return self._at_end and not self._awaiting_result


def next_seek(tokens: tuple[int, ...], duration: float, vocabulary: Vocabulary) -> float:
    """Seconds of a window after which the next window begins, above 0 (openai/whisper's rule).

    The last timestamp pair, if a segment is opened but not finished, or several were finished and none is open; the end
    of the window otherwise.
    """
    pair_indices = timestamp_pair_indices(tokens, vocabulary)
    ends_with_timestamp = len(tokens) >= 2 and vocabulary.is_timestamp(tokens[-1])
    if not pair_indices or (ends_with_timestamp and not vocabulary.is_timestamp(tokens[-2])):
        return duration
    last_timestamp = vocabulary.timestamp_seconds(tokens[pair_indices[-1] - 1])
    return last_timestamp if 0 < last_timestamp < duration else duration
