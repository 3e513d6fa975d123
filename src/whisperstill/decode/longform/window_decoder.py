"""Decoding windows in batches: encoder, language detection, continuous batching, temperature fallback.

Windows wait in a queue and take slots of the batch as they become free, so that short and long transcripts of all
recordings keep the batch full. A repetitive or improbable result is decoded again at the next temperature (thresholds
and their meaning are openai/whisper's) from the same encoder states, in whatever slot is free.
"""

import time
from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from whisperstill.audio.mel import pad_or_trim
from whisperstill.decode.generate.batch_scheduler import DecodeRequest
from whisperstill.decode.generate.beam_search import BeamSearch, normalize_by_length
from whisperstill.decode.generate.sampling import sampling_seed
from whisperstill.decode.generate.speculative_stats import SpeculativeStats
from whisperstill.decode.generate.token_stats import DecodingResult, TokenStats
from whisperstill.decode.longform.hallucination_filter import remove_loops
from whisperstill.decode.longform.window import AudioWindow, DetectedLanguage, WindowResult
from whisperstill.decode.options import DecodingOptions
from whisperstill.decode.output.transcript import compression_ratio
from whisperstill.decode.whisper_model import WhisperModel, WindowTranscript


@dataclass
class _FallbackAttempt:
    """A window being decoded at one temperature."""

    window: AudioWindow
    states: Tensor
    draft_states: Tensor | None
    language: DetectedLanguage
    fallback_index: int = 0
    """Index of the temperature in `DecodingOptions.temperature`."""
    num_samples: int = 1
    samples: list[DecodingResult] = field(default_factory=list)


class WindowDecoder:
    """Decodes windows with a model, with or without timestamps; results come in any order."""

    def __init__(self, model: WhisperModel, options: DecodingOptions, timestamps: bool) -> None:
        self._model, self._options, self._timestamps = model, options, timestamps
        logit_filter = model.make_logit_filter(timestamps, options.suppress_tokens, options.max_initial_timestamp)
        beam_options = options.beam_size, options.patience, options.length_penalty
        self._beam_search = BeamSearch(model.network, logit_filter, *beam_options) if options.beam_size > 1 else None
        self._beam_requests: list[DecodeRequest] = []
        """Requests for beam search, which needs no slot."""
        self._scheduler = model.make_scheduler(options.batch_size, logit_filter, deterministic=options.deterministic)
        self._queued_windows: deque[AudioWindow] = deque()
        self._attempts: dict[DecodeRequest, _FallbackAttempt] = {}
        self._languages: dict[int, DetectedLanguage] = {}
        """Detected language by recording, for windows made before their strategy received it."""

    @property
    def num_windows_wanted(self) -> int:
        """Windows that could start now."""
        return max(0, self._scheduler.num_free_slots - len(self._queued_windows))

    @property
    def idle(self) -> bool:
        return not (self._queued_windows or self._beam_requests) and self._scheduler.idle

    @property
    def speculative_stats(self) -> SpeculativeStats:
        """Statistics of everything decoded so far."""
        return self._scheduler.speculative_stats

    def submit(self, window: AudioWindow) -> None:
        """Queue a window."""
        self._queued_windows.append(window)

    def step(self) -> list[WindowResult]:
        """Decode one block of every slot, and beam searches to their end; returns the windows that finished."""
        results: list[WindowResult] = []
        # 1. Encode queued windows. On a GPU wait for a quarter of the batch: encoding interrupts all other windows.
        free_slots, batch_size = self._scheduler.num_free_slots, self._options.batch_size
        min_encode_batch = 1 if self._model.network.device.type == "cpu" else max(1, batch_size // 4)
        if self._queued_windows and free_slots >= min(min_encode_batch, len(self._queued_windows), batch_size):
            count = min(free_slots, len(self._queued_windows))
            results += self._start_windows([self._queued_windows.popleft() for _ in range(count)])
        # 2. Decode with beam search, and one block of the others.
        finished = []
        if self._beam_search is not None:
            finished = [(request, self._beam_search.decode(request)) for request in self._beam_requests]
            self._beam_requests.clear()
        for request, decoded in [*finished, *self._scheduler.step()]:
            results += self._finish_sample(self._attempts.pop(request), decoded)
        return results

    def _start_windows(self, windows: list[AudioWindow]) -> list[WindowResult]:
        """Encode windows and request their first attempts; windows without speech are finished at once."""
        silent_windows = [window for window in windows if window.speech is not None and not window.speech.spans]
        results = [self._empty_result(window) for window in silent_windows]
        windows = [window for window in windows if window not in silent_windows]
        if not windows:
            return results
        model, start_time = self._model, time.perf_counter()
        waveforms = torch.from_numpy(np.stack([pad_or_trim(window.waveform) for window in windows]))
        # One by one if deterministic: states depend on the size of the batch in the last bits.
        batches = torch.split(waveforms, 1 if self._options.deterministic else len(waveforms))
        states = torch.cat([model.encode(batch) for batch in batches])
        draft_states = model.encode_for_draft(waveforms)
        languages = [self._resolve_language(window, states[row]) for row, window in enumerate(windows)]
        self.speculative_stats.encoder_seconds += time.perf_counter() - start_time
        for row, (window, language) in enumerate(zip(windows, languages, strict=True)):
            window_draft_states = None if draft_states is None else draft_states[row]
            self._start_attempt(_FallbackAttempt(window, states[row], window_draft_states, language))
        return results

    def _resolve_language(self, window: AudioWindow, states: Tensor) -> DetectedLanguage:
        """The window's language, else that of its recording, detected in the recording's first window with speech."""
        if window.language is not None:
            return window.language
        if self._options.multilingual or window.recording_id not in self._languages:
            [(code, probability)] = self._model.detect_language(states[None])
            self._languages[window.recording_id] = DetectedLanguage(code, probability)
        return self._languages[window.recording_id]

    def _empty_result(self, window: AudioWindow) -> WindowResult:
        """Result of a window without speech, which is not decoded."""
        language, width = window.language.code if window.language else "en", self._model.dims.width
        stats = TokenStats.of_logprobs(torch.zeros(1), torch.zeros(1), width)
        window_transcript = WindowTranscript(language, "", DecodingResult((), True, 1.0, stats))
        return WindowResult(window, window_transcript, 0.0, torch.zeros(0, width))

    def _start_attempt(self, attempt: _FallbackAttempt) -> None:
        options, vocabulary, window = self._options, self._model.vocabulary, attempt.window
        temperature = options.temperature[attempt.fallback_index]
        # With timestamps the prefix is the beginning of a segment, and the timestamp rules continue from there.
        forced_prefix = (vocabulary.timestamp_begin, *window.prefix) if self._timestamps and window.prefix else ()
        start_tokens = vocabulary.sot_sequence(attempt.language.code, options.task, self._timestamps)
        prompt_tokens = (*window.prompt, *start_tokens, *(forced_prefix or window.prefix))
        attempt.num_samples = options.best_of if temperature > 0 else 1
        for sample_index in range(attempt.num_samples):
            # Seeded by the window's position in its recording: samples do not depend on batching or timing.
            sample_seed = sampling_seed(options.seed, round(1000 * window.start), attempt.fallback_index, sample_index)
            request = DecodeRequest(
                attempt.states, prompt_tokens, attempt.draft_states, temperature, sample_seed, forced_prefix
            )
            self._attempts[request] = attempt
            if self._beam_search is not None and temperature == 0:
                self._beam_requests.append(request)
            else:
                self._scheduler.submit(request)

    def _finish_sample(self, attempt: _FallbackAttempt, decoded: DecodingResult) -> list[WindowResult]:
        """Collect a sample; after the last one of an attempt, finish the window or try the next temperature."""
        attempt.samples.append(decoded)
        if len(attempt.samples) < attempt.num_samples:
            return []
        # 1. Take the most probable sample.
        best_sample = max(attempt.samples, key=self._sequence_score)
        text = self._model.tokenizer.decode(best_sample.tokens).strip()
        window_transcript = WindowTranscript(attempt.language.code, text, best_sample)
        # 2. Try the next temperature if the result fails a threshold.
        next_index = attempt.fallback_index + 1
        if next_index < len(self._options.temperature) and self._needs_fallback(window_transcript):
            self._start_attempt(replace(attempt, fallback_index=next_index, samples=[]))
            return []
        # 3. Remove loops that no temperature avoided.
        loop_text, temperature = "", self._options.temperature[attempt.fallback_index]
        if self._options.hallucination_filter:
            window_transcript, loop_text = remove_loops(window_transcript, self._model.tokenizer)
        window, states, language = attempt.window, attempt.states, attempt.language
        return [WindowResult(window, window_transcript, temperature, states, language, loop_text)]

    def _needs_fallback(self, window_transcript: WindowTranscript) -> bool:
        """Whether a result fails a threshold (openai/whisper's rule): improbable and not silent, or too repetitive."""
        options = self._options
        min_logprob, max_no_speech = options.logprob_threshold, options.no_speech_threshold
        low_logprob = min_logprob is not None and window_transcript.avg_logprob < min_logprob
        if low_logprob and max_no_speech is not None and window_transcript.result.no_speech_prob > max_no_speech:
            return False
        max_ratio = options.compression_ratio_threshold
        return low_logprob or (max_ratio is not None and compression_ratio(window_transcript.text) > max_ratio)

    def _sequence_score(self, decoded: DecodingResult) -> float:
        sum_logprob = float(decoded.token_stats.filtered_logprob.sum())
        return normalize_by_length(sum_logprob, len(decoded.tokens), self._options.length_penalty)
