"""Strategy `sequential`: openai/whisper's sequential long-form transcription.

Each window begins where the last complete segment of the previous one ended, and is prompted with the preceding text.
No word is cut, and names and style carry over; but windows of one recording cannot be batched, and a loop can carry
over as well. Text that needed a high temperature is therefore not used as a prompt (`prompt_reset_on_temperature`).
"""

from whisperstill.decode.longform.assemble import TranscriptAssembler
from whisperstill.decode.longform.hallucination_filter import is_silent
from whisperstill.decode.longform.window import AudioWindow, WindowResult
from whisperstill.decode.longform.window_source import WindowSource
from whisperstill.decode.prompts import build_prompt
from whisperstill.text.vocabulary import Vocabulary
from whisperstill.units import MAX_PROMPT_TOKENS, SAMPLE_RATE

MIN_WINDOW_S = 0.1
"""Audio no longer than this at the end of a recording is not decoded."""


class Sequential:
    """Decodes one window of `window_seconds` after the other."""

    def __init__(self, source: WindowSource, window_seconds: float) -> None:
        self.source, self.transcript = source, TranscriptAssembler(source.context)
        self._window_seconds = window_seconds
        self._seek, self._awaiting_result, self._at_end = 0.0, False, False
        self._previous_tokens: list[int] = []
        """Last tokens of the transcript, the prompt of the next window."""

    def next_window(self) -> AudioWindow | None:
        """See `LongFormStrategy`."""
        if self._awaiting_result or self._at_end:
            return None
        self.source.reader.discard_before(self._seek)
        waveform = self.source.reader.read(self._seek, self._window_seconds)
        if len(waveform) <= MIN_WINDOW_S * SAMPLE_RATE and self._seek:
            self._at_end = True
            return None
        self._awaiting_result = True
        prefix = () if self._seek else self.source.context.prefix
        return self.source.make_window(self._seek, waveform, self._prompt(), prefix)

    def on_result(self, result: WindowResult) -> None:
        """See `LongFormStrategy`."""
        context, window = self.source.context, result.window
        self._awaiting_result = False
        self.source.update_language(result)
        # 1. Advance to the end of the last complete segment.
        seek_advance = window.duration
        if not is_silent(result.window_transcript, context.options):
            tokens = result.window_transcript.result.tokens
            seek_advance = next_seek(tokens, window.duration, context.model.vocabulary)
        self._seek = round(window.start + seek_advance, 3)  # rounded as segment times are
        segments = self.transcript.segments_from(result, self._seek)
        self.transcript.add_segments(segments)
        # 2. Extend the prompt, or reset it after a high temperature.
        if not context.condition_on_previous_text or result.temperature > context.options.prompt_reset_on_temperature:
            self._previous_tokens = []
        else:
            new_tokens = [token for segment in segments for token in segment.tokens]
            previous_tokens = [*(self._previous_tokens or context.initial_prompt_tokens), *new_tokens]
            self._previous_tokens = previous_tokens[-MAX_PROMPT_TOKENS:]
        self._at_end = not self.source.reader.has_audio_after(self._seek)

    @property
    def finished(self) -> bool:
        """See `LongFormStrategy`."""
        return self._at_end and not self._awaiting_result

    def _prompt(self) -> tuple[int, ...]:
        context = self.source.context
        if not self._previous_tokens:
            return context.prompt
        return build_prompt(context.model.tokenizer, self._previous_tokens, context.options.hotwords)


def next_seek(tokens: tuple[int, ...], duration: float, vocabulary: Vocabulary) -> float:
    """Seconds of a window after which the next window begins, above 0 (openai/whisper's rule).

    The last timestamp pair, if a segment is opened but not finished, or several were finished and none is open; the end
    of the window otherwise.
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
