"""How recordings are decoded. Names, and the defaults of its Python API, are openai/whisper's where it has them."""

import math
from dataclasses import dataclass

from whisperstill.errors import SettingsError
from whisperstill.units import WINDOW_SECONDS

DEFAULT_TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
LONG_FORM_STRATEGIES = ("auto", "chunked", "sequential", "vad", "silence")
NULLABLE_OPTIONS = frozenset(
    {"compression_ratio_threshold", "logprob_threshold", "no_speech_threshold", "length_penalty"}
)
"""Options whose None is not the default, or says that something is not done."""
NONE_EQUIVALENTS = {"suppress_tokens": (), "best_of": 1, "max_initial_timestamp": WINDOW_SECONDS}
"""What None says in openai/whisper: no token, one sample, no limit."""


@dataclass(frozen=True, slots=True)
class DecodingOptions:
    """How recordings are decoded."""

    task: str = "transcribe"
    without_timestamps: bool | None = None
    """None: with timestamps, unless the checkpoint is a student that never saw them."""
    initial_prompt: str | tuple[int, ...] | None = None
    """Text (or its tokens) that stands before the first window as if it had been said, and before all others where they
    do not have the text before them: names, spelling, style."""
    prefix: str | None = None
    """Text that the first window is taken to begin with; the transcript goes on after it."""
    hotwords: str | None = None
    """Words that stand before every window, in front of the text before it."""
    temperature: tuple[float, ...] = DEFAULT_TEMPERATURES
    """0: the most probable token, otherwise sampled. The next one is tried where a result fails the thresholds."""
    best_of: int = 5
    """Samples drawn at a temperature above 0; the most probable one is taken."""
    beam_size: int = 1
    """Hypotheses followed at temperature 0; 1 is greedy decoding."""
    patience: float = 1.0
    """Beam search ends when `beam_size * patience` hypotheses have."""
    length_penalty: float | None = None
    """Alpha of ((5 + length) / 6) ** alpha, by which log-probabilities are divided; None: by the length."""
    compression_ratio_threshold: float | None = 2.4
    """A text that compresses better than this repeats itself: it failed."""
    logprob_threshold: float | None = -1.0
    """Mean log-probability below which a result failed."""
    no_speech_threshold: float | None = 0.6
    """Probability of silence above which a result of too low a log-probability is silence, and no failure."""
    condition_on_previous_text: bool | None = None
    """`sequential`: each window has the text before it as a prompt. None: unless the checkpoint is a student that never
    saw prompts: most of what is said after one it leaves out."""
    prompt_reset_on_temperature: float = 0.5
    """`sequential`: no text of a window that needed a temperature above this becomes a prompt."""
    max_initial_timestamp: float = 1.0
    """Seconds: a window's transcript may not begin later."""
    suppress_tokens: tuple[int, ...] = (-1,)
    """Tokens that are never said; -1 stands for those of the checkpoint's own settings."""
    multilingual: bool = False
    """Detect the language of every window anew."""
    seed: int = 0
    """Of sampling: the same one gives the same text whatever the batch."""
    batch_size: int = 8
    """Windows decoded at a time."""
    deterministic: bool = False
    """Blocks of fixed shapes, equal to the last bit with and without an assistant; without it decoding is faster."""
    long_form: str = "auto"
    """How long recordings are taken apart, see `decode.longform.recordings`."""
    chunk_length: float | None = None
    """Seconds of a window; None: 30, and for `chunked` of a student 15."""
    word_timestamps: bool = False
    """Find when each word was said."""
    hallucination_filter: bool = True
    """Decode no window in which nobody speaks, believe no text far from any voice, cut loops."""

    def __post_init__(self) -> None:
        """Raises `SettingsError`, naming all that is wrong."""
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
        """The language of what is written down where this one is spoken."""
        return "en" if self.task == "translate" else language


def parse_token_ids(text: str) -> tuple[int, ...]:
    """Ids of tokens, written with commas between. Raises `SettingsError` for anything else."""
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise SettingsError(
            f"suppress_tokens must be ids with commas between, such as -1,50364; got {text!r}"
        ) from None
