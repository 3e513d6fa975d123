"""Window results to words, segments and the transcript of a recording."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from whisperstill.decode.longform.hallucination_filter import HallucinationFilter
from whisperstill.decode.longform.segments import attach_words, split_into_segments
from whisperstill.decode.longform.window import WindowResult
from whisperstill.decode.longform.window_source import LongFormContext, WindowSource
from whisperstill.decode.output.transcript import Segment, Transcript, Word, join_segments
from whisperstill.decode.word_timestamps.align import align_words


class TranscriptAssembler:
    """Transcript of one recording, growing in order of time."""

    def __init__(self, context: LongFormContext) -> None:
        self._context = context
        self.filter = HallucinationFilter(context.options)
        self.segments: list[Segment] = []
        """Final segments: no later result comes before them."""
        self._num_popped = 0

    def add_segments(self, segments: Sequence[Segment]) -> None:
        """Append final segments and number them."""
        self.segments += [replace(segment, id=len(self.segments) + index) for index, segment in enumerate(segments)]

    def pop_new_segments(self) -> list[Segment]:
        """Segments added since the last call."""
        new_segments = self.segments[self._num_popped :]
        self._num_popped = len(self.segments)
        return new_segments

    def build(self, source: WindowSource) -> Transcript:
        """The transcript of everything added."""
        segments, read_error = tuple(self.segments), source.reader.read_error
        return Transcript(
            text=join_segments(segments, source.output_language),
            segments=segments,
            language=source.language_code,
            language_probability=source.language.probability if source.language else 0.0,
            duration=source.duration,
            filtered_segments=tuple(self.filter.merged_segments()),
            read_error=str(read_error) if read_error else None,
            translated=self._context.options.task == "translate",
        )

    def segments_from(self, result: WindowResult, until: float = math.inf) -> list[Segment]:
        """Segments of a window that pass the hallucination filter, with words if `word_timestamps` is on.

        A segment that begins at `until` (seconds of the recording) or later is left out: it is decoded again.
        """
        context, window = self._context, result.window
        if not self.filter.accept_window(result):
            return []
        segments = split_into_segments(
            result.window_transcript, window.start, window.duration, context.model.tokenizer, context.timestamps
        )
        segments = [replace(segment, temperature=result.temperature) for segment in segments if segment.start < until]
        if context.options.word_timestamps and segments:
            segments = attach_words(segments, self.words_from(result))
        return self.filter.drop_far_segments(window, segments)

    def words_from(self, result: WindowResult, until: float | None = None) -> list[Word]:
        """Words of a window, in seconds of the recording, aligned within its first `until` seconds."""
        window, context = result.window, self._context
        [words] = align_words(
            context.model,
            result.states[None],
            [result.window_transcript],
            [min(window.duration, until or window.duration)],
            waveforms=torch.from_numpy(window.waveform)[None],
            options=context.options,
            prefixes=[window.prefix],
        )
        offset = window.start
        return [replace(word, start=round(offset + word.start, 3), end=round(offset + word.end, 3)) for word in words]
