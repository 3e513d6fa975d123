"""Strategies `silence` and `vad`: windows that do not overlap and do not depend on each other's results."""

import math
from bisect import bisect_left
from collections import deque

from whisperstill.audio.sound_activity import cut_reader
from whisperstill.audio.speech_windows import stream_speech_windows
from whisperstill.decode.longform.hallucination_filter import is_silent
from whisperstill.decode.longform.segments import resume_at
from whisperstill.decode.longform.strategy import LongFormStrategy
from whisperstill.decode.longform.window import AudioWindow, WindowResult
from whisperstill.decode.output.transcript import Segment
from whisperstill.units import SAMPLE_RATE


class NonOverlapping(LongFormStrategy):
    """Decodes windows in any order; what a window leaves untranscribed becomes a window of its own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        max_seconds = self.window_seconds
        self._timed_waveforms = (
            stream_speech_windows(self.reader.drain(), max_seconds=max_seconds)
            if self.options.long_form == "vad"
            else cut_reader(self.reader, max_seconds)
        )
        self._remainders: deque[AudioWindow] = deque()
        self._pending_starts: list[float] = []
        """Starts of the windows without a result."""
        self._held_segments: list[Segment] = []
        """Segments that wait for the result of an earlier window."""
        self._all_read = False

    def next_window(self) -> AudioWindow | None:
        """See `LongFormStrategy`."""
        if self._remainders:
            return self._remainders.popleft()
        timed_waveform = next(self._timed_waveforms, None)
        if timed_waveform is None:
            self._all_read = True
            return None
        self._pending_starts.append(timed_waveform[0])
        return self.make_window(*timed_waveform)

    def on_result(self, result: WindowResult) -> None:
        """See `LongFormStrategy`."""
        window = result.window
        self.update_language(result)
        # 1. Hold the window's segments.
        self._pending_starts.remove(window.start)
        self._held_segments += self.segments_from(result)
        # 2. Queue the rest of a window whose transcript ends early.
        if self.timestamps and not is_silent(result.window_transcript, self.options):
            resume_seconds = resume_at(result, self.model.vocabulary)
            if resume_seconds is not None:
                start, remainder = window.start + resume_seconds, window.waveform[round(resume_seconds * SAMPLE_RATE) :]
                self._remainders.append(self.make_window(start, remainder))
                self._pending_starts.append(start)
        # 3. Release the segments before the first window without a result.
        self._held_segments.sort(key=lambda segment: (segment.start, segment.end))
        first_pending = min(self._pending_starts, default=math.inf)
        num_final = bisect_left(self._held_segments, first_pending, key=lambda segment: segment.start)
        self.add_segments(self._held_segments[:num_final])
        del self._held_segments[:num_final]

    @property
    def finished(self) -> bool:
        return self._all_read and not self._pending_starts
