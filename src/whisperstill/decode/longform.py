"""Recordings of any length, many at a time.

Each recording has a plan (`decode.plans`) that says which windows are to be heard; the windows of all recordings share
the slots of one engine. Audio is read as it is needed and forgotten again: what is held in memory is a few windows and
the text so far, however long the recordings are. The strategies:

    quiet       cut at the quietest places, between half a window and a whole one; what a window leaves is heard again
    vad         what holds no speech is left out, the rest cut in pauses
    chunked     overlapping chunks joined by their words (`decode.chunked`)
    sequential  openai/whisper's way: each window begins where the one before ended (`decode.sequential`)

The language of a recording that nobody named is that of its first window, as in openai/whisper. `stream_recording`
gives the segments of one recording as they become final.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32

from whisperstill.audio.activity import cut_reader
from whisperstill.audio.files import stream_audio
from whisperstill.audio.reader import Reader
from whisperstill.audio.windows import voiced_windows
from whisperstill.decode.chunked import Chunked
from whisperstill.decode.engine import Engine
from whisperstill.decode.options import DecodingOptions
from whisperstill.decode.plans import Apart, Plan, Setting
from whisperstill.decode.recogniser import Recogniser
from whisperstill.decode.sequential import Sequential
from whisperstill.decode.transcript import Segment, Transcript
from whisperstill.decode.windows import Spoken, Window
from whisperstill.errors import AudioError
from whisperstill.units import WINDOW_SECONDS

Result: TypeAlias = Transcript | AudioError
STUDENT_CHUNK = 15.0
"""Seconds: the best chunk for a student that was trained on short audio (paper, table 17)."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A file, a stretch of it, or a stream, to be transcribed."""

    path: str
    """Of a stream, what it is to be called."""
    start: float = 0.0
    """Seconds of a file."""
    duration: float | None = None
    """Seconds of a file; None: to the end."""
    language: str | None = None
    """ISO 639-1 code; None: detect it."""
    blocks: Iterator[Float32[np.ndarray, "_"]] | None = None
    """16 kHz mono audio that comes once, in place of a file (see `audio.streams`)."""


def transcribe_recordings(
    recogniser: Recogniser,
    recordings: Iterable[Recording],
    options: DecodingOptions | None = None,
    advance: Callable[[float], None] | None = None,
    in_order: bool = True,
) -> Iterator[tuple[Recording, Transcript | AudioError]]:
    """Transcripts in the order of the recordings, or each as soon as it is finished.

    A recording that cannot be read gives its `AudioError` in place of a transcript; the others go on. One that breaks
    off gives the transcript of what there is of it (`Transcript.broken`). `advance` is
    told the seconds of audio of every window that is done. Times in a transcript count from the recording's `start`.
    What was decoded is added to `recogniser.speculation`. Raises `SettingsError` for a language or task that the
    network does not know.
    """
    run = _Run(recogniser, options or DecodingOptions(), advance or (lambda seconds: None))
    try:
        yield from run.results(iter(recordings), in_order)
    finally:
        recogniser.speculation += run.engine.speculation


def stream_recording(
    recogniser: Recogniser, recording: Recording, options: DecodingOptions | None = None
) -> tuple[Iterator[Segment], Plan]:
    """The segments of one recording, each as soon as nothing can come before it, and the plan that knows the rest.

    Ids ascend; all segments together are those of the transcript. Up to `batch_size` windows are read before the first
    is heard. Raises `AudioError` when nothing can be read, `SettingsError` as `transcribe_recordings`; where the
    recording breaks off, an `AudioError` is raised behind the segments.
    """
    run = _Run(recogniser, options or DecodingOptions(), lambda seconds: None)
    plan = make_plan(run.setting, recording)
    run.open.append((recording, plan))

    def segments() -> Iterator[Segment]:
        try:
            yield from run.segments(plan)
        finally:
            recogniser.speculation += run.engine.speculation

    return segments(), plan


def strategy_of(options: DecodingOptions) -> str:
    """What `auto` stands for."""
    return "quiet" if options.strategy == "auto" else options.strategy


def with_timestamps(recogniser: Recogniser, options: DecodingOptions) -> bool:
    """Whether timestamps are decoded, as they are unless the network never saw any.

    Without them Whisper's own checkpoints may end after a sentence or two of a window, and nobody can tell where.
    """
    if options.without_timestamps is None:
        return not recogniser.without_timestamps
    return not options.without_timestamps


class _Run:
    """Recordings on their way."""

    def __init__(self, recogniser: Recogniser, options: DecodingOptions, advance: Callable[[float], None]) -> None:
        self.setting = Setting(recogniser, options, with_timestamps(recogniser, options))
        self.engine = Engine(recogniser, options, self.setting.timestamps)
        self.advance = advance
        self.open: deque[tuple[Recording, Plan | Result]] = deque()
        """In order."""

    def results(self, recordings: Iterator[Recording], in_order: bool) -> Iterator[tuple[Recording, Result]]:
        """See `transcribe_recordings`."""
        while True:
            self._step(recordings)
            yield from self._finished(in_order)
            if self.engine.idle and not self.open:
                first = next(recordings, None)
                if first is None:
                    return
                self._start(first)

    def _finished(self, in_order: bool) -> Iterator[tuple[Recording, Result]]:
        """What can be given now. What is finished gives its audio back, even where it waits for those before it."""
        waiting: deque[tuple[Recording, Plan | Result]] = deque()
        for recording, known in self.open:
            result = known.transcript() if isinstance(known, Plan) and known.finished else known
            if isinstance(result, Plan) or (in_order and waiting):
                waiting.append((recording, result))
            else:
                yield recording, result
        self.open = waiting

    def segments(self, plan: Plan) -> Iterator[Segment]:
        """Those of the only recording, see `stream_recording`."""
        while True:
            self._step(iter(()))
            yield from plan.settled()
            if plan.finished:
                if plan.reader.broken:
                    raise plan.reader.broken
                return

    def _step(self, recordings: Iterator[Recording]) -> None:
        """Fill the slots and decode a block of each."""
        while self.engine.wants and (window := self._window(recordings)) is not None:
            self.engine.put(window)
        if self.engine.idle:
            return
        for heard in self.engine.advance():
            plan = heard.window.owner
            assert isinstance(plan, Plan)
            plan.take(heard)
            end = heard.window.start + heard.window.duration
            self.advance(max(0.0, end - plan.reached))
            plan.reached = max(plan.reached, end)

    def _window(self, recordings: Iterator[Recording]) -> Window | None:
        """A window of the first recording that has one; recordings are begun as they are needed."""
        for _, plan in list(self.open):
            if isinstance(plan, Plan) and (window := plan.next()) is not None:
                return window
        while (recording := next(recordings, None)) is not None:
            plan = self._start(recording)
            if isinstance(plan, Plan) and (window := plan.next()) is not None:
                return window
        return None

    def _start(self, recording: Recording) -> Plan | AudioError:
        plan: Plan | AudioError
        try:
            plan = make_plan(self.setting, recording)
        except AudioError as error:
            plan = error
        self.open.append((recording, plan))
        return plan


def make_plan(setting: Setting, recording: Recording) -> Plan:
    """The plan of a recording. Raises `AudioError` when it cannot be read, `SettingsError` for its language."""
    options, recogniser = setting.options, setting.recogniser
    spoken = Spoken(recogniser.known_language(recording.language))
    strategy, length = strategy_of(options), options.chunk_length
    blocks = recording.blocks
    if blocks is None:
        blocks = stream_audio(recording.path, recording.start, recording.duration)
    reader = Reader(blocks)
    if not reader.goes_beyond(0.0):
        raise AudioError(f"expected sound in {'the stream' if recording.blocks else recording.path}, found none")
    if strategy == "sequential":
        return Sequential(setting, spoken, reader, length or WINDOW_SECONDS)
    if strategy == "chunked":
        student = "teacher" in recogniser.metadata
        return Chunked(setting, spoken, reader, length or (STUDENT_CHUNK if student else WINDOW_SECONDS))
    length = length or WINDOW_SECONDS
    voiced = strategy == "vad"
    cuts = voiced_windows(reader.rest(), max_seconds=length) if voiced else cut_reader(reader, length)
    return Apart(setting, spoken, reader, cuts)
