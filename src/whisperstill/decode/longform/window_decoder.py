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
from whisperstill.decode.generate.batch_scheduler import DecodeRequest
from whisperstill.decode.generate.beam_search import BeamSearch, normalize_by_length
from whisperstill.decode.generate.sampling import sampling_seed
from whisperstill.decode.generate.speculative_stats import SpeculativeStats
from whisperstill.decode.generate.token_stats import DecodingResult
from whisperstill.decode.longform.hallucination_filter import drop_tokens, empty_result, find_repetition_loops
from whisperstill.decode.longform.window import AudioWindow, WindowResult
from whisperstill.decode.options import DecodingOptions
from whisperstill.decode.output.transcript import compression_ratio
from whisperstill.decode.whisper_model import WhisperModel, WindowTranscript

MIN_LOOP_COMPRESSION_RATIO = 2.4
"""Compression ratio above which loops are looked for."""


@dataclass
class _FallbackAttempt:
    """A window at one rung of the ladder of temperatures."""

    window: AudioWindow
    states: Tensor
    draft_states: Tensor | None
    language: str
    fallback_index: int = 0
    num_samples: int = 1
    """Samples to be drawn."""
    samples: list[DecodingResult] = field(default_factory=list)


class WindowDecoder:
    """Hears windows with a recogniser. `timestamps`: whether they are decoded."""

    def __init__(self, model: WhisperModel, options: DecodingOptions, timestamps: bool) -> None:
        self._model, self._options, self._timestamps = model, options, timestamps
        logit_filter = model.make_logit_filter(timestamps, options.suppress_tokens, options.max_initial_timestamp)
        beam_search = None
        if options.beam_size > 1:
            beam_search = BeamSearch(
                model.network, logit_filter, options.beam_size, options.patience, options.length_penalty
            )
        self._generator = model.make_generator(
            options.batch_size,
            logit_filter=logit_filter,
            deterministic=options.deterministic,
            beam_search=beam_search,
        )
        self._queued_windows: deque[AudioWindow] = deque()
        self._attempts: dict[DecodeRequest, _FallbackAttempt] = {}

    @property
    def num_windows_wanted(self) -> int:
        """Windows that it could use now."""
        return max(0, self._generator.num_free_slots - len(self._queued_windows))

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._queued_windows and self._generator.idle

    @property
    def speculative_stats(self) -> SpeculativeStats:
        """What was decoded so far, and where the time went."""
        return self._generator.speculative_stats

    def submit(self, window: AudioWindow) -> None:
        """A window to be heard when its turn comes."""
        self._queued_windows.append(window)

    def step(self) -> list[WindowResult]:
        """One step; gives the windows that are done with it."""
        results: list[WindowResult] = []
        free_slots = self._generator.num_free_slots
        # Few windows at a time would interrupt all others again and again; on a CPU that costs nothing.
        min_encode_batch = 1 if self._model.network.device.type == "cpu" else max(1, self._options.batch_size // 4)
        if self._queued_windows and free_slots >= min(
            min_encode_batch, len(self._queued_windows), self._options.batch_size
        ):
            results += self._start_windows(
                [self._queued_windows.popleft() for _ in range(min(free_slots, len(self._queued_windows)))]
            )
        for request, decoded in self._generator.step():
            results += self._finish_sample(self._attempts.pop(request), decoded)
        return results

    def _start_windows(self, windows: list[AudioWindow]) -> list[WindowResult]:
        results = [
            self._empty_result(window) for window in windows if window.speech is not None and not window.speech.spans
        ]
        windows = [window for window in windows if window.speech is None or window.speech.spans]
        if not windows:
            return results
        model, start_time = self._model, time.perf_counter()
        waveforms = torch.from_numpy(np.stack([pad_or_trim(window.waveform) for window in windows]))
        # A window's states must not know how many others came with it where outputs are to be equal to the last bit.
        batches = torch.split(waveforms, 1 if self._options.deterministic else len(waveforms))
        states = torch.cat([model.encode(batch) for batch in batches])
        draft_states = model.encode_for_draft(waveforms, states)
        for row, window in enumerate(windows):
            if window.detected_language.code is None:
                [(window.detected_language.code, window.detected_language.probability)] = model.detect_language(
                    states[row : row + 1]
                )
        self._generator.speculative_stats.encoder_seconds += time.perf_counter() - start_time
        for row, window in enumerate(windows):
            window_draft_states = None if draft_states is None else draft_states[row]
            self._start_attempt(
                _FallbackAttempt(window, states[row], window_draft_states, window.detected_language.code or "en")
            )
        return results

    def _empty_result(self, window: AudioWindow) -> WindowResult:
        """A window in which nobody speaks: nobody is asked."""
        window_transcript = WindowTranscript(
            window.detected_language.code or "en", "", empty_result(self._model.dims.width)
        )
        return WindowResult(window, window_transcript, 0.0, torch.zeros(0, self._model.dims.width))

    def _start_attempt(self, attempt: _FallbackAttempt) -> None:
        """Ask for the samples of a rung."""
        options, vocabulary = self._options, self._model.vocabulary
        temperature = options.temperature[attempt.fallback_index]
        window = attempt.window
        # With timestamps the prefix is the beginning of a segment, and the rules go on from there.
        forced_prefix = (vocabulary.timestamp_begin, *window.prefix) if self._timestamps and window.prefix else ()
        prompt_tokens = (*window.prompt, *vocabulary.sot_sequence(attempt.language, options.task, self._timestamps))
        prompt_tokens += forced_prefix or window.prefix
        attempt.num_samples = options.best_of if temperature > 0 else 1
        for sample_index in range(attempt.num_samples):
            # Where the window lies in its recording, not when or with whom it is decoded.
            sample_seed = sampling_seed(options.seed, round(1000 * window.start), attempt.fallback_index, sample_index)
            request = DecodeRequest(
                attempt.states, prompt_tokens, attempt.draft_states, temperature, sample_seed, forced_prefix
            )
            self._attempts[request] = attempt
            self._generator.submit(request)

    def _finish_sample(self, attempt: _FallbackAttempt, decoded: DecodingResult) -> list[WindowResult]:
        """A sample has come: the window is done, or it is tried again."""
        attempt.samples.append(decoded)
        if len(attempt.samples) < attempt.num_samples:
            return []
        best_sample = max(attempt.samples, key=self._sequence_score)
        text = self._model.tokenizer.decode(best_sample.tokens).strip()
        window_transcript = WindowTranscript(attempt.language, text, best_sample)
        if attempt.fallback_index + 1 < len(self._options.temperature) and self._needs_fallback(window_transcript):
            self._start_attempt(
                _FallbackAttempt(
                    attempt.window, attempt.states, attempt.draft_states, attempt.language, attempt.fallback_index + 1
                )
            )
            return []
        return [self._postprocess(attempt, window_transcript)]

    def _postprocess(self, attempt: _FallbackAttempt, window_transcript: WindowTranscript) -> WindowResult:
        """What is kept of a result: all of it, but for loops that no temperature got rid of."""
        temperature, loop_text, tokenizer = self._options.temperature[attempt.fallback_index], "", self._model.tokenizer
        if (
            self._options.hallucination_filter
            and compression_ratio(window_transcript.text) > MIN_LOOP_COMPRESSION_RATIO
        ):
            loop_indices = find_repetition_loops(window_transcript.result.tokens, self._model.vocabulary)
            loop_text = tokenizer.decode([window_transcript.result.tokens[index] for index in loop_indices]).strip()
            decoded = drop_tokens(window_transcript.result, loop_indices)
            window_transcript = WindowTranscript(
                window_transcript.language, tokenizer.decode(decoded.tokens).strip(), decoded
            )
        return WindowResult(attempt.window, window_transcript, temperature, attempt.states, loop_text)

    def _is_too_repetitive(self, window_transcript: WindowTranscript) -> bool:
        compression_ratio_threshold = self._options.compression_ratio_threshold
        return (
            compression_ratio_threshold is not None
            and compression_ratio(window_transcript.text) > compression_ratio_threshold
        )

    def _needs_fallback(self, window_transcript: WindowTranscript) -> bool:
        """Whether a result is to be tried again (openai/whisper's rule)."""
        logprob_threshold, no_speech_threshold = self._options.logprob_threshold, self._options.no_speech_threshold
        low_logprob = logprob_threshold is not None and window_transcript.avg_logprob < logprob_threshold
        if (
            low_logprob
            and no_speech_threshold is not None
            and window_transcript.result.no_speech_prob > no_speech_threshold
        ):
            return False
        return low_logprob or self._is_too_repetitive(window_transcript)

    def _sequence_score(self, decoded: DecodingResult) -> float:
        sum_logprob = float(decoded.token_stats.filtered_logprob.sum())
        return normalize_by_length(sum_logprob, len(decoded.tokens), self._options.length_penalty)
