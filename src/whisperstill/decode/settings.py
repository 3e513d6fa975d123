"""Decoding settings of `transcribe`: every option of the decoder, named as in openai/whisper or faster-whisper.

The defaults are those of `DecodingOptions`.
"""

from dataclasses import dataclass, fields
from typing import Literal

from whisperstill.decode.options import DecodingOptions, parse_token_ids
from whisperstill.errors import SettingsError

_DEFAULTS = DecodingOptions()
MAX_FALLBACK_TEMPERATURE = 1.0
"""Highest temperature of the fallback."""
MIN_TEMPERATURE_STEP = 0.01


@dataclass(frozen=True, kw_only=True)
class DecodingSettings:
    """Decoding options."""

    task: Literal["transcribe", "translate"] = "transcribe"
    """Task: transcribe in the spoken language, or translate to English (multilingual models)."""
    long_form: Literal["auto", "chunked", "sequential", "vad", "silence"] = "auto"
    """Strategy for recordings over 30 s. `silence` (`auto`): cut at the quietest places; `vad`: leave out audio without
    speech; `chunked`: overlapping chunks, merged by their words; `sequential`: openai/whisper's algorithm, each window
    begins where the previous one ended and is prompted with its text."""
    chunk_length: float | None = _DEFAULTS.chunk_length
    """Length of a window, 5 to 30 s. Default: 30; for `chunked` with a student 15."""
    without_timestamps: bool | None = _DEFAULTS.without_timestamps
    """Decoding without timestamps: one segment per window. Default: only for students trained without timestamps."""
    word_timestamps: bool = _DEFAULTS.word_timestamps
    """Word timestamps, from cross-attention."""
    initial_prompt: str | None = None
    """Prompt text, such as names, spelling or style, before the first window, and before every window that is not
    prompted with the preceding text."""
    prefix: str | None = _DEFAULTS.prefix
    """Forced beginning of the first window's transcript."""
    hotwords: str | None = _DEFAULTS.hotwords
    """Words that begin the prompt of every window."""
    condition_on_previous_text: bool | None = _DEFAULTS.condition_on_previous_text
    """Prompting with the preceding text (`sequential`). Default: on, except for students trained without prompts."""
    prompt_reset_on_temperature: float = _DEFAULTS.prompt_reset_on_temperature
    """Temperature above which a window's text is not used as a prompt (`sequential`)."""
    multilingual: bool = _DEFAULTS.multilingual
    """Language detection in every window instead of the first."""
    temperature: float = _DEFAULTS.temperature[0]
    """Sampling temperature of the first attempt; 0: greedy decoding or beam search."""
    temperature_increment_on_fallback: float | None = 0.2
    """Increment of the temperature, up to 1, when a result fails a threshold below; None: no fallback."""
    best_of: int = _DEFAULTS.best_of
    """Samples at temperatures above 0, of which the most probable one is used."""
    beam_size: int = _DEFAULTS.beam_size
    """Beams at temperature 0; with more than 1, windows are decoded one by one without the assistant."""
    patience: float = _DEFAULTS.patience
    """Beam search ends after beam_size * patience finished hypotheses."""
    length_penalty: float | None = _DEFAULTS.length_penalty
    """Exponent alpha of the length penalty ((5 + length) / 6) ** alpha; None: the length itself."""
    suppress_tokens: str = ",".join(map(str, _DEFAULTS.suppress_tokens))
    """Ids of suppressed tokens, separated by commas; -1 stands for those of the model's generation config. Several need
    an equals sign: --suppress_tokens=-1,50364."""
    max_initial_timestamp: float = _DEFAULTS.max_initial_timestamp
    """Latest start of a window's first segment, in seconds."""
    compression_ratio_threshold: float | None = _DEFAULTS.compression_ratio_threshold
    """Compression ratio of the text above which a result fails as repetitive."""
    logprob_threshold: float | None = _DEFAULTS.logprob_threshold
    """Mean log-probability below which a result fails."""
    no_speech_threshold: float | None = _DEFAULTS.no_speech_threshold
    """No-speech probability above which a window that fails the log-probability threshold is silent."""
    hallucination_filter: bool = _DEFAULTS.hallucination_filter
    """Hallucination filter: skip windows without speech, remove text far from speech and repetition loops. The json
    lists what was removed. `--no_hallucination_filter` turns it off."""
    seed: int = _DEFAULTS.seed
    """Seed of sampling; texts do not depend on the batch size."""
    deterministic: bool = _DEFAULTS.deterministic
    """Bit-identical results with and without an assistant, in every dtype; slower."""
    batch_size: int = _DEFAULTS.batch_size
    """Windows decoded together, across files."""

    def options(self) -> DecodingOptions:
        """The options of the decoder. Raises `SettingsError` that lists all problems."""
        problems: list[str] = []
        shared_fields = {field.name for field in fields(DecodingOptions)} - {"temperature", "suppress_tokens"}
        values = {name: getattr(self, name) for name in shared_fields}
        for name, parse in (
            ("temperature", self._fallback_temperatures),
            ("suppress_tokens", self._suppress_token_ids),
        ):
            try:
                values[name] = parse()
            except SettingsError as error:
                problems.append(str(error))
        try:
            options = DecodingOptions(**values)
        except SettingsError as error:
            problems.append(str(error))
        if problems:
            raise SettingsError("; ".join(problems))
        return options

    def _fallback_temperatures(self) -> tuple[float, ...]:
        """Temperatures to try in order: 0, 0.2, ... 1 by default."""
        first, step = self.temperature, self.temperature_increment_on_fallback
        if step is None:
            return (first,)
        if not step >= MIN_TEMPERATURE_STEP:
            raise SettingsError(
                f"temperature_increment_on_fallback must be at least {MIN_TEMPERATURE_STEP:g}, or None, got {step:g}"
            )
        if not first < MAX_FALLBACK_TEMPERATURE:
            return (first,)
        count = int((MAX_FALLBACK_TEMPERATURE - first) / step + 1e-6)
        return tuple(round(first + step * index, 6) for index in range(count + 1))

    def _suppress_token_ids(self) -> tuple[int, ...]:
        return parse_token_ids(self.suppress_tokens)
