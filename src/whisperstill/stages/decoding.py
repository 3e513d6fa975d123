"""How `transcribe` decodes: every option of the decoder, named as in openai/whisper, else as in faster-whisper.

The defaults are those of `DecodingOptions`, which loads no torch.
"""

from dataclasses import dataclass, fields
from typing import Literal

from whisperstill.decode.options import DecodingOptions, token_ids
from whisperstill.errors import SettingsError

_DEFAULT = DecodingOptions()
HIGHEST_TEMPERATURE = 1.0
"""Where the ladder of temperatures ends."""
SMALLEST_STEP = 0.01


@dataclass(frozen=True, kw_only=True)
class DecodingSettings:
    """How audio is decoded."""

    task: Literal["transcribe", "translate"] = "transcribe"
    """Write what was said, or its English translation (multilingual models)."""
    strategy: Literal["auto", "chunked", "sequential", "vad", "quiet"] = "auto"
    """How long recordings are taken apart. `quiet`, which is `auto`: cut at the quietest places; `vad`: what is no
    speech is left out; `chunked`: overlapping chunks, joined by their words; `sequential`: openai/whisper's way, where
    each window begins where the one before ended and has its text as a prompt."""
    chunk_length: float | None = _DEFAULT.chunk_length
    """Seconds of a window, 5 to 30. Default: 30; for `chunked` with a student 15."""
    without_timestamps: bool | None = _DEFAULT.without_timestamps
    """Decode no timestamps: one segment per window. Default: only for students that never saw any."""
    word_timestamps: bool = _DEFAULT.word_timestamps
    """Find when each word was said."""
    initial_prompt: str | None = None
    """Text that stands before the first window, as if it had been said, and before every other one that does not have
    the text before it: names, spelling, style."""
    prefix: str | None = _DEFAULT.prefix
    """Text that the first window is taken to begin with; the transcript goes on after it."""
    hotwords: str | None = _DEFAULT.hotwords
    """Words that stand before every window, in front of the text before it."""
    condition_on_previous_text: bool | None = _DEFAULT.condition_on_previous_text
    """`sequential`: whether each window has the text before it as a prompt. Default: yes, but for students that never
    saw prompts."""
    prompt_reset_on_temperature: float = _DEFAULT.prompt_reset_on_temperature
    """`sequential`: no text of a window that needed a higher temperature becomes a prompt."""
    multilingual: bool = _DEFAULT.multilingual
    """Detect the language of every window anew."""
    temperature: float = _DEFAULT.temperature[0]
    """0: the most probable token; above: tokens are drawn."""
    temperature_increment_on_fallback: float | None = 0.2
    """What is added to the temperature, up to 1, where a result fails a threshold below; None: it is kept as it is."""
    best_of: int = _DEFAULT.best_of
    """Results drawn at a temperature above 0, of which the most probable one is taken."""
    beam_size: int = _DEFAULT.beam_size
    """Hypotheses followed at temperature 0; above 1 windows are decoded one by one, without the assistant."""
    patience: float = _DEFAULT.patience
    """The search ends when beam_size * patience hypotheses have."""
    length_penalty: float | None = _DEFAULT.length_penalty
    """Alpha of the length penalty ((5 + length) / 6) ** alpha; None: by the length itself."""
    suppress_tokens: str = ",".join(map(str, _DEFAULT.suppress_tokens))
    """Ids of tokens that are never said, with commas; -1 stands for those of the model's own settings. Written with an
    equals sign where there are several: --suppress_tokens=-1,50364."""
    max_initial_timestamp: float = _DEFAULT.max_initial_timestamp
    """Seconds: a window's first segment may not begin later."""
    compression_ratio_threshold: float | None = _DEFAULT.compression_ratio_threshold
    """A text with a higher gzip compression ratio repeats itself: it failed."""
    logprob_threshold: float | None = _DEFAULT.logprob_threshold
    """A result with a lower mean log-probability failed."""
    no_speech_threshold: float | None = _DEFAULT.no_speech_threshold
    """A window with a higher probability of silence is silent where its mean log-probability failed."""
    guards: bool = _DEFAULT.guards
    """Leave out windows in which nobody speaks, believe no text far from any voice, cut loops; what is left out is
    listed in the json. `--no_guards` switches that off."""
    seed: int = _DEFAULT.seed
    """Of drawing: the same one gives the same text whatever the batch."""
    mode: Literal["free", "exact-block"] = "free"
    """`exact-block`: with and without an assistant the same to the last bit, in every dtype; `free`: faster."""
    batch_size: int = _DEFAULT.batch_size
    """Windows decoded at a time, over files."""

    def options(self) -> DecodingOptions:
        """The same for the decoder. Raises `SettingsError` that lists all problems."""
        problems: list[str] = []
        same = {field.name for field in fields(DecodingOptions)} - {"temperature", "suppress_tokens"}
        given = {name: getattr(self, name) for name in same}
        for name, read in (("temperature", self._temperatures), ("suppress_tokens", self._suppressed)):
            try:
                given[name] = read()
            except SettingsError as error:
                problems.append(str(error))
        try:
            options = DecodingOptions(**given)
        except SettingsError as error:
            problems.append(str(error))
        if problems:
            raise SettingsError("; ".join(problems))
        return options

    def _temperatures(self) -> tuple[float, ...]:
        """The ladder: 0, 0.2, ... 1 by default."""
        first, step = self.temperature, self.temperature_increment_on_fallback
        if step is None:
            return (first,)
        if not step >= SMALLEST_STEP:
            raise SettingsError(
                f"temperature_increment_on_fallback must be at least {SMALLEST_STEP:g}, or None, got {step:g}"
            )
        if not first < HIGHEST_TEMPERATURE:
            return (first,)
        count = int((HIGHEST_TEMPERATURE - first) / step + 1e-6)
        return tuple(round(first + step * index, 6) for index in range(count + 1))

    def _suppressed(self) -> tuple[int, ...]:
        return token_ids(self.suppress_tokens)
