"""Decoding options. Names and defaults are those of openai/whisper's Python API where it has them."""

import math
from dataclasses import dataclass

from whisperstill.errors import SettingsError
from whisperstill.units import WINDOW_SECONDS

DEFAULT_TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
LONG_FORM_STRATEGIES = ("auto", "chunked", "sequential", "vad", "silence")
NULLABLE_OPTIONS = frozenset(
    {"compression_ratio_threshold", "logprob_threshold", "no_speech_threshold", "length_penalty"}
)
"""Options for which None has a meaning of its own, such as 'off'."""
NONE_EQUIVALENTS = {"suppress_tokens": (), "best_of": 1, "max_initial_timestamp": WINDOW_SECONDS}
"""Values that None stands for in openai/whisper: no token, one sample, no limit."""


@dataclass(frozen=True, slots=True)
class DecodingOptions:
    """Options of transcription."""

    task: str = "transcribe"
    """`transcribe`, or `translate` to English."""
    without_timestamps: bool | None = None
    """Decode without timestamp tokens. None: only for students trained without timestamps."""
    initial_prompt: str | tuple[int, ...] | None = None
    """Text or token ids used as the previous text of the first window, and of all windows that are not prompted with
    the text before them: names, spelling, style."""
    prefix: str | None = None
    """Text that the transcript of the first window begins with; decoding continues after it."""
    hotwords: str | None = None
    """Words that are put in front of the prompt of every window."""
    temperature: tuple[float, ...] = DEFAULT_TEMPERATURES
    """Sampling temperatures, 0 is greedy. If a result fails a threshold, the next temperature is used."""
    best_of: int = 5
    """Samples drawn at temperatures above 0; the most probable one is used."""
    beam_size: int = 1
    """Hypotheses of beam search, at temperature 0; 1 is greedy decoding."""
    patience: float = 1.0
    """Beam search stops at `beam_size * patience` finished hypotheses."""
    length_penalty: float | None = None
    """Exponent alpha of the divisor ((5 + length) / 6) ** alpha of log-probabilities. None: divided by the length."""
    compression_ratio_threshold: float | None = 2.4
    """Compression ratio (zlib) above which a result fails, as too repetitive."""
    logprob_threshold: float | None = -1.0
    """Mean log-probability per token below which a result fails."""
    no_speech_threshold: float | None = 0.6
    """Probability of `<|nospeech|>` above which a result below `logprob_threshold` is silence, not a failure."""
    condition_on_previous_text: bool | None = None
    """Prompt each window with the text before it (`sequential`). None: except for students trained without prompts,
    which omit most of the speech after a prompt."""
    prompt_reset_on_temperature: float = 0.5
    """Temperature above which the text of a window is not used as a prompt (`sequential`)."""
    max_initial_timestamp: float = 1.0
    """Upper bound of the first timestamp of a window, in seconds."""
    suppress_tokens: tuple[int, ...] = (-1,)
    """Ids of tokens that are never decoded; -1 stands for those of the checkpoint's generation config."""
    multilingual: bool = False
    """Detect the language of every window, not only of the first one."""
    seed: int = 0
    """Seed of sampling; equal seeds give equal texts with any batch size."""
    batch_size: int = 8
    """Windows decoded at once."""
    deterministic: bool = False
    """Tensor shapes are fixed: results are equal to the last bit with and without an assistant. Slower."""
    long_form: str = "auto"
    """Long-form strategy, see `decode.longform.recordings`."""
    chunk_length: float | None = None
    """Length of a window in seconds. None: 30, or 15 for a student with `chunked`."""
    word_timestamps: bool = False
    """Compute start and end of each word."""
    hallucination_filter: bool = True
    """Skip windows without speech; remove text far from speech, and repetition loops."""

    def __post_init__(self) -> None:
        """Raises `SettingsError` that lists all invalid options."""
        problems = []
        temperatures = self.temperature
        if (
            not isinstance(temperatures, tuple)
            or not temperatures
            or not all(0 <= temperature < math.inf for temperature in temperatures)
        ):
            problems.append(f"temperature must be a tuple of numbers of at least 0, got {self.temperature}")
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

    def output_language(self, language: str) -> str:
        """Language of the transcript of speech in `language`."""
        return "en" if self.task == "translate" else language


def parse_token_ids(text: str) -> tuple[int, ...]:
    """Token ids from comma-separated text. Raises `SettingsError` for anything else."""
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise SettingsError(f"suppress_tokens must be comma-separated ids such as -1,50364, got {text!r}") from None
