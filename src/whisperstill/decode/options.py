"""Decoding options of the Python API and of the command line, named as in openai/whisper or faster-whisper."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, Literal

from whisperstill.errors import SettingsError
from whisperstill.units import WINDOW_SECONDS

DEFAULT_TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
MAX_FALLBACK_TEMPERATURE = DEFAULT_TEMPERATURES[-1]
MIN_TEMPERATURE_STEP = 0.01
LONG_FORM_STRATEGIES = ("auto", "chunked", "sequential", "vad", "silence")
NULLABLE_OPTIONS = frozenset(
    {"compression_ratio_threshold", "logprob_threshold", "no_speech_threshold", "length_penalty"}
)
"""Options for which None has a meaning of its own, such as 'off'."""
NONE_EQUIVALENTS = {"suppress_tokens": (), "best_of": 1, "max_initial_timestamp": WINDOW_SECONDS}
"""Values that None stands for in openai/whisper: no token, one sample, no limit."""


@dataclass(frozen=True, kw_only=True)
class _SharedOptions:
    """Options with the same form in `DecodingOptions` and `DecodingSettings`; the docstrings are the `--help` texts."""

    task: str = "transcribe"
    """`transcribe`, or `translate` to English."""
    long_form: str = "auto"
    """Long-form strategy, see `decode.longform.recordings`."""
    chunk_length: float | None = None
    """Length of a window, 5 to 30 s. Default: 30; for `chunked` with a student 15."""
    without_timestamps: bool | None = None
    """Decoding without timestamps: one segment per window. Default: only for students trained without timestamps."""
    word_timestamps: bool = False
    """Word timestamps, from cross-attention."""
    prefix: str | None = None
    """Forced beginning of the first window's transcript."""
    hotwords: str | None = None
    """Words to favour, such as names and terms: the beginning of the prompt of every window."""
    condition_on_previous_text: bool | None = None
    """Prompting with the preceding text (`sequential`). Default: on, except for students trained without prompts."""
    prompt_reset_on_temperature: float = 0.5
    """Temperature above which a window's text is not used as a prompt (`sequential`)."""
    multilingual: bool = False
    """Language detection in every window instead of the first."""
    best_of: int = 5
    """Samples at temperatures above 0, of which the most probable one is used."""
    beam_size: int = 1
    """Beams at temperature 0; with more than 1, windows are decoded one by one without the assistant."""
    patience: float = 1.0
    """Beam search ends after beam_size * patience finished hypotheses."""
    length_penalty: float | None = None
    """Exponent alpha of the length penalty ((5 + length) / 6) ** alpha; None: scores are divided by the length."""
    max_initial_timestamp: float = 1.0
    """Latest start of a window's first segment, in seconds."""
    compression_ratio_threshold: float | None = 2.4
    """Compression ratio of the text above which a result fails as repetitive, and the next temperature is tried."""
    logprob_threshold: float | None = -1.0
    """Mean log-probability below which a result fails, and the next temperature is tried."""
    no_speech_threshold: float | None = 0.6
    """No-speech probability above which a window that fails the log-probability threshold counts as silence."""
    hallucination_filter: bool = True
    """Hallucination filter: skips windows without speech, removes text far from speech and repetition loops; the json
    lists what was removed."""
    seed: int = 0
    """Seed of sampling."""
    deterministic: bool = False
    """Bit-identical results with and without an assistant, in every dtype; slower. Without it they differ by rounding,
    which in bfloat16 can change a word."""
    batch_size: int = 8
    """Windows decoded together, across files; in float32 the text does not depend on it."""


@dataclass(frozen=True, kw_only=True)
class DecodingOptions(_SharedOptions):
    """Options of transcription."""

    initial_prompt: str | tuple[int, ...] | None = None
    """Text or token ids used as the previous text of the first window, and of all windows that are not prompted with
    the text before them: names, spelling, style."""
    temperature: tuple[float, ...] = DEFAULT_TEMPERATURES
    """Sampling temperatures, 0 is greedy. If a result fails a threshold, the next temperature is used."""
    suppress_tokens: tuple[int, ...] = (-1,)
    """Ids of tokens that are never decoded; -1 stands for those of the checkpoint's generation config."""

    def __post_init__(self) -> None:
        """Raises `SettingsError` that lists all invalid options."""
        problems = []
        temperatures = self.temperature
        if not isinstance(temperatures, tuple) or not temperatures or not all(0 <= t < math.inf for t in temperatures):
            problems.append(f"temperature must be a tuple of numbers of at least 0, got {temperatures}")
        for name in ("best_of", "beam_size", "batch_size"):
            if getattr(self, name) < 1:
                problems.append(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.patience < math.inf or round(max(1, self.beam_size) * self.patience) < 1:
            problems.append(f"patience must be above 0, and beam_size * patience at least 1, got {self.patience:g}")
        if self.length_penalty is not None and not 0 <= self.length_penalty <= 1:
            problems.append(f"length_penalty must be 0 to 1, or None, got {self.length_penalty:g}")
        if not 0 <= self.max_initial_timestamp <= WINDOW_SECONDS:
            problems.append(f"max_initial_timestamp must be 0 to 30 s, got {self.max_initial_timestamp:g}")
        if self.long_form not in LONG_FORM_STRATEGIES:
            problems.append(f"long_form must be {', '.join(LONG_FORM_STRATEGIES)}, got {self.long_form!r}")
        if self.chunk_length is not None and not 5 <= self.chunk_length <= WINDOW_SECONDS:
            problems.append(f"chunk_length must be 5 to 30 s, got {self.chunk_length:g}")
        if self.task not in ("transcribe", "translate"):
            problems.append(f"task must be transcribe or translate, got {self.task!r}")
        if problems:
            raise SettingsError("; ".join(problems))

    @property
    def long_form_strategy(self) -> str:
        """The strategy used; `auto` is `silence`."""
        return "silence" if self.long_form == "auto" else self.long_form

    def output_language(self, language: str) -> str:
        """Language of the transcript of speech in `language`."""
        return "en" if self.task == "translate" else language


@dataclass(frozen=True, kw_only=True)
class DecodingSettings(_SharedOptions):
    """Decoding options as the command line and recipes write them."""

    task: Literal["transcribe", "translate"] = "transcribe"
    """Task: transcribe in the spoken language, or translate to English (multilingual models)."""
    long_form: Literal["auto", "chunked", "sequential", "vad", "silence"] = "auto"
    """Strategy for recordings over 30 s. `silence` (used by `auto`): cut at the quietest places; `vad`: cut in pauses,
    and leave out audio without speech; `chunked`: overlapping chunks, merged by their words; `sequential`:
    openai/whisper's algorithm, each window begins where the previous one ended and is prompted with its text."""
    initial_prompt: str | None = None
    """Prompt text, such as names, spelling or style, before the first window, and before every window that is not
    prompted with the preceding text."""
    temperature: float = DEFAULT_TEMPERATURES[0]
    """Sampling temperature of the first attempt; 0: greedy decoding or beam search."""
    temperature_increment_on_fallback: float | None = 0.2
    """Increment of the temperature, up to 1, when a result fails a threshold; None: no fallback."""
    suppress_tokens: str = "-1"
    """Ids of suppressed tokens, separated by commas; -1 stands for those of the model's generation config. A list
    that begins with -1 needs an equals sign: --suppress_tokens=-1,50364."""

    def options(self) -> DecodingOptions:
        """The options of the decoder. Raises `SettingsError` that lists all problems."""
        problems: list[str] = []
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(_SharedOptions)}
        with collect_error(problems):
            values["temperature"] = self._fallback_temperatures()
        with collect_error(problems):
            values["suppress_tokens"] = parse_token_ids(self.suppress_tokens)
        with collect_error(problems):
            options = DecodingOptions(initial_prompt=self.initial_prompt, **values)
        if problems:
            raise SettingsError("; ".join(problems))
        return options

    def _fallback_temperatures(self) -> tuple[float, ...]:
        """Temperatures to try in order: 0, 0.2, ... 1 by default."""
        first, step = self.temperature, self.temperature_increment_on_fallback
        if step is None:
            return (first,)
        if not step >= MIN_TEMPERATURE_STEP:
            minimum = f"at least {MIN_TEMPERATURE_STEP:g}, or None"
            raise SettingsError(f"temperature_increment_on_fallback must be {minimum}, got {step:g}")
        if not first < MAX_FALLBACK_TEMPERATURE:
            return (first,)
        count = int((MAX_FALLBACK_TEMPERATURE - first) / step + 1e-6)
        return tuple(round(first + step * index, 6) for index in range(count + 1))


@contextmanager
def collect_error(problems: list[str], prefix: str = "") -> Iterator[None]:
    """Append the message of a `SettingsError` to `problems` instead of raising it."""
    try:
        yield
    except SettingsError as error:
        problems.append(f"{prefix}{error}")


def parse_token_ids(text: str) -> tuple[int, ...]:
    """Token ids from comma-separated text. Raises `SettingsError` for anything else."""
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise SettingsError(f"suppress_tokens must be comma-separated ids such as -1,50364, got {text!r}") from None
