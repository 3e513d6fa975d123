"""Windows in, what was heard out: encoder, language, slots, and another try where a result is bad.

Windows wait in a queue and take the slots as they become free, so that long and short transcripts of all recordings
keep the slots full. A result that repeats itself or that the network is unsure of is decoded again at the next
temperature (the thresholds and their meaning are openai/whisper's), from the same encoder states, in whatever slot.
"""

import time
from collections import deque
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from whisperstill.audio.mel import pad_or_trim
from whisperstill.decode.beam import beam_search, for_its_length
from whisperstill.decode.guards import loops, nothing_heard, without
from whisperstill.decode.observed import Decoded
from whisperstill.decode.options import DecodingOptions
from whisperstill.decode.pool import Job
from whisperstill.decode.recogniser import Recognised, Recogniser
from whisperstill.decode.sampling import noise_key
from whisperstill.decode.speculation import Speculation
from whisperstill.decode.transcript import compression_ratio
from whisperstill.decode.windows import Heard, Window

LOOPING = 2.4
"""Compression ratio above which loops are looked for."""


@dataclass
class _Try:
    """A window at one rung of the ladder of temperatures."""

    window: Window
    states: Tensor
    draft_states: Tensor | None
    language: str
    rung: int = 0
    asked: int = 1
    """Samples to be drawn."""
    found: list[Decoded] = field(default_factory=list)


class Engine:
    """Hears windows with a recogniser. `timestamps`: whether they are decoded."""

    def __init__(self, recogniser: Recogniser, options: DecodingOptions, timestamps: bool) -> None:
        self._recogniser, self._options, self._timestamps = recogniser, options, timestamps
        self._rules = recogniser.rules(timestamps, options.suppress_tokens, options.max_initial_timestamp)
        self._pool = recogniser.pool(options.batch_size, rules=self._rules, exact=options.mode == "exact-block")
        self._windows: deque[Window] = deque()
        self._jobs: deque[Job] = deque()
        self._tries: dict[int, _Try] = {}
        self._number = 0

    @property
    def wants(self) -> int:
        """Windows that it could use now."""
        return max(0, self._pool.free - len(self._jobs) - len(self._windows))

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not (self._windows or self._jobs or self._pool.busy)

    @property
    def speculation(self) -> Speculation:
        """What was decoded so far, and where the time went."""
        return self._pool.counts

    def put(self, window: Window) -> None:
        """A window to be heard when its turn comes."""
        self._windows.append(window)

    def advance(self) -> list[Heard]:
        """One step; gives the windows that are done with it."""
        done: list[Heard] = []
        room = self._pool.free - len(self._jobs)
        # Few windows at a time would interrupt all others again and again; on a CPU that costs nothing.
        enough = 1 if self._recogniser.network.device.type == "cpu" else max(1, self._pool.size // 4)
        if self._windows and room >= min(enough, len(self._windows), self._pool.size):
            done += self._encode([self._windows.popleft() for _ in range(min(room, len(self._windows)))])
        fresh = [self._jobs.popleft() for _ in range(min(self._pool.free, len(self._jobs)))]
        if fresh:
            self._pool.put(fresh)
        if self._pool.busy:
            for job, decoded in self._pool.step():
                done += self._judge(job.mark, decoded)
        return done

    def _encode(self, windows: list[Window]) -> list[Heard]:
        done = [self._silent(window) for window in windows if window.voice is not None and not window.voice.spans]
        windows = [window for window in windows if window.voice is None or window.voice.spans]
        if not windows:
            return done
        recogniser, begun = self._recogniser, time.perf_counter()
        waveforms = torch.from_numpy(np.stack([pad_or_trim(window.waveform) for window in windows]))
        # A window's states must not know how many others came with it where outputs are to be equal to the last bit.
        parts = torch.split(waveforms, 1 if self._options.mode == "exact-block" else len(waveforms))
        states = torch.cat([recogniser.encode(part) for part in parts])
        draft_states = recogniser.draft_states(waveforms, states)
        for row, window in enumerate(windows):
            if window.spoken.code is None:
                [(window.spoken.code, window.spoken.probability)] = recogniser.detect(states[row : row + 1])
        self._pool.counts.encoder_seconds += time.perf_counter() - begun
        for row, window in enumerate(windows):
            drafted = None if draft_states is None else draft_states[row]
            done += self._try(_Try(window, states[row], drafted, window.spoken.code or "en"))
        return done

    def _silent(self, window: Window) -> Heard:
        """A window in which nobody speaks: nobody is asked."""
        nothing = Recognised(window.spoken.code or "en", "", nothing_heard(self._recogniser.dims.width))
        return Heard(window, nothing, 0.0, torch.zeros(0, self._recogniser.dims.width))

    def _try(self, one: _Try) -> list[Heard]:
        """Ask for the samples of a rung."""
        options, vocabulary = self._options, self._recogniser.vocabulary
        temperature = options.temperature[one.rung]
        window = one.window
        # With timestamps the prefix is the beginning of a segment, and the rules go on from there.
        said = (vocabulary.timestamp_begin, *window.prefix) if self._timestamps and window.prefix else ()
        start = (*window.prompt, *vocabulary.start(one.language, options.task, self._timestamps))
        start += said or window.prefix
        self._number += 1
        number = self._number
        self._tries[number] = one
        if temperature == 0 and options.beam_size > 1:
            found = beam_search(
                self._recogniser.network,
                one.states,
                start,
                self._rules,
                beam_size=options.beam_size,
                patience=options.patience,
                length_penalty=options.length_penalty,
                said=said,
            )
            return self._judge(number, found)
        one.asked = options.best_of if temperature > 0 else 1
        for sample in range(one.asked):
            # Where the window lies in its recording, not when or with whom it is decoded.
            key = noise_key(options.seed, round(1000 * window.start), one.rung, sample)
            self._jobs.append(Job(one.states, start, one.draft_states, temperature, key, said=said, mark=number))
        return []

    def _judge(self, number: object, decoded: Decoded) -> list[Heard]:
        """A sample has come: the window is done, or it is tried again."""
        assert isinstance(number, int)
        one = self._tries[number]
        one.found.append(decoded)
        if len(one.found) < one.asked:
            return []
        del self._tries[number]
        best = max(one.found, key=self._rank)
        text = self._recogniser.tokenizer.decode(best.tokens).strip()
        recognised = Recognised(one.language, text, best)
        if one.rung + 1 < len(self._options.temperature) and self._failed(recognised):
            return self._try(_Try(one.window, one.states, one.draft_states, one.language, one.rung + 1))
        return [self._believed(one, recognised)]

    def _believed(self, one: _Try, heard: Recognised) -> Heard:
        """What is kept of a result: all of it, but for loops that no temperature got rid of."""
        temperature, looped, tokenizer = self._options.temperature[one.rung], "", self._recogniser.tokenizer
        if self._options.guards and compression_ratio(heard.text) > LOOPING:
            places = loops(heard.decoded.tokens, self._recogniser.vocabulary)
            looped = tokenizer.decode([heard.decoded.tokens[at] for at in places]).strip()
            decoded = without(heard.decoded, places)
            heard = Recognised(heard.language, tokenizer.decode(decoded.tokens).strip(), decoded)
        return Heard(one.window, heard, temperature, one.states, looped)

    def _repeats(self, heard: Recognised) -> bool:
        most = self._options.compression_ratio_threshold
        return most is not None and compression_ratio(heard.text) > most

    def _failed(self, heard: Recognised) -> bool:
        """Whether a result is to be tried again (openai/whisper's rule)."""
        least, silent = self._options.logprob_threshold, self._options.no_speech_threshold
        unsure = least is not None and heard.mean_logprob < least
        if unsure and silent is not None and heard.decoded.no_speech > silent:
            return False
        return unsure or self._repeats(heard)

    def _rank(self, decoded: Decoded) -> float:
        total = float(decoded.observed.allowed.sum())
        return for_its_length(total, len(decoded.tokens), self._options.length_penalty)
