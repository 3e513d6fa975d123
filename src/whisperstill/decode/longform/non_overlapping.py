"""Strategies `silence` and `vad`: windows that do not overlap and do not depend on each other's results."""

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float32

from whisperstill.decode.longform.assemble import TranscriptAssembler
from whisperstill.decode.longform.hallucination_filter import is_silent
from whisperstill.decode.longform.segments import resume_at
from whisperstill.decode.longform.window import AudioWindow, WindowResult
from whisperstill.decode.longform.window_source import WindowSource
from whisperstill.decode.output.transcript import Segment
from whisperstill.units import SAMPLE_RATE


class NonOverlapping:
    """Decodes windows in any order; what a window leaves untranscribed becomes a window of its own."""

    def __init__(
        self, source: WindowSource, timed_waveforms: Iterator[tuple[float, Float32[np.ndarray, "samples"]]]
    ) -> None:
        """`timed_waveforms`: start in seconds and waveform of each window, in order."""
        self.source, self.transcript = source, TranscriptAssembler(source.context)
        self._timed_waveforms = timed_waveforms
        self._remainders: deque[AudioWindow] = deque()
        self._pending_starts: list[float] = []
        """Starts of the windows without a result."""
        self._held_segments: list[Segment] = []
        """Segments that wait for the result of an earlier window."""
        self._all_read, self._is_first = False, True

    def next_window(self) -> AudioWindow | None:
        """See `LongFormStrategy`."""
        if self._remainders:
            return self._remainders.popleft()
        if self._all_read:
            return None
        timed_waveform = next(self._timed_waveforms, None)
        if timed_waveform is None:
            self._all_read = True
            return None
        start, waveform = timed_waveform
        self._pending_starts.append(start)
        prefix, self._is_first = self.source.context.prefix if self._is_first else (), False
        return self.source.make_window(start, waveform, prefix=prefix)

    def on_result(self, result: WindowResult) -> None:
        """See `LongFormStrategy`."""
        window, context = result.window, self.source.context
        self.source.update_language(result)
        # 1. Hold the window's segments.
        self._pending_starts.remove(window.start)
        self._held_segments += self.transcript.segments_from(result)
        # 2. Queue the rest of a window whose transcript ends early.
        if context.timestamps and not is_silent(result.window_transcript, context.options):
            resume_seconds = resume_at(result, context.model.vocabulary)
            if resume_seconds is not None:
                start, remainder = window.start + resume_seconds, window.waveform[round(resume_seconds * SAMPLE_RATE) :]
                self._remainders.append(self.source.make_window(start, remainder, window.prompt))
                self._pending_starts.append(start)
        # 3. Release the segments before the first window without a result.
        self._held_segments.sort(key=lambda segment: (segment.start, segment.end))
        first_pending = min(self._pending_starts, default=math.inf)
        num_final = bisect_left(self._held_segments, first_pending, key=lambda segment: segment.start)
        self.transcript.add_segments(self._held_segments[:num_final])
        del self._held_segments[:num_final]

    @property
    def finished(self) -> bool:
        """See `LongFormStrategy`."""
        return self._all_read and not self._pending_starts
