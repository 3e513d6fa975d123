"""How `transcribe` decodes: every option of the decoder, named as in openai/whisper, else as in faster-whisper.

The defaults are those of `DecodingOptions`, which loads no torch.
"""

from dataclasses import dataclass, fields
from typing import Literal

from whisperstill.decode.options import DecodingOptions, parse_token_ids
from whisperstill.errors import SettingsError

_DEFAULTS = DecodingOptions()
MAX_FALLBACK_TEMPERATURE = 1.0
"""Where the ladder of temperatures ends."""
MIN_TEMPERATURE_STEP = 0.01


@dataclass(frozen=True, kw_only=True)
class DecodingSettings:
    """How audio is decoded."""

    task: Literal["transcribe", "translate"] = "transcribe"
    """Write what was said, or its English translation (multilingual models)."""
    long_form: Literal["auto", "chunked", "sequential", "vad", "silence"] = "auto"
    """How long recordings are taken apart. `silence`, which is `auto`: cut at the quietest places; `vad`: what is no
    speech is left out; `chunked`: overlapping chunks, joined by their words; `sequential`: openai/whisper's way, where
    each window begins where the one before ended and has its text as a prompt."""
    chunk_length: float | None = _DEFAULTS.chunk_length
    """Seconds of a window, 5 to 30. Default: 30; for `chunked` with a student 15."""
    without_timestamps: bool | None = _DEFAULTS.without_timestamps
    """Decode no timestamps: one segment per window. Default: only for students that never saw any."""
    word_timestamps: bool = _DEFAULTS.word_timestamps
    """Find when each word was said."""
    initial_prompt: str | None = None
    """Text that stands before the first window, as if it had been said, and before every other one that does not have
    the text before it: names, spelling, style."""
    prefix: str | None = _DEFAULTS.prefix
    """Text that the first window is taken to begin with; the transcript goes on after it."""
    hotwords: str | None = _DEFAULTS.hotwords
    """Words that stand before every window, in front of the text before it."""
    condition_on_previous_text: bool | None = _DEFAULTS.condition_on_previous_text
    """`sequential`: whether each window has the text before it as a prompt. Default: yes, but for students that never
    saw prompts."""
    prompt_reset_on_temperature: float = _DEFAULTS.prompt_reset_on_temperature
    """`sequential`: no text of a window that needed a higher temperature becomes a prompt."""
    multilingual: bool = _DEFAULTS.multilingual
    """Detect the language of every window anew."""
    temperature: float = _DEFAULTS.temperature[0]
    """0: the most probable token; above: tokens are drawn."""
    temperature_increment_on_fallback: float | None = 0.2
    """What is added to the temperature, up to 1, where a result fails a threshold below; None: it is kept as it is."""
    best_of: int = _DEFAULTS.best_of
    """Results drawn at a temperature above 0, of which the most probable one is taken."""
    beam_size: int = _DEFAULTS.beam_size
    """Hypotheses followed at temperature 0; above 1 windows are decoded one by one, without the assistant."""
    patience: float = _DEFAULTS.patience
    """The search ends when beam_size * patience hypotheses have."""
    length_penalty: float | None = _DEFAULTS.length_penalty
    """Alpha of the length penalty ((5 + length) / 6) ** alpha; None: by the length itself."""
    suppress_tokens: str = ",".join(map(str, _DEFAULTS.suppress_tokens))
    """Ids of tokens that are never said, with commas; -1 stands for those of the model's own settings. Written with an
    equals sign where there are several: --suppress_tokens=-1,50364."""
    max_initial_timestamp: float = _DEFAULTS.max_initial_timestamp
    """Seconds: a window's first segment may not begin later."""
    compression_ratio_threshold: float | None = _DEFAULTS.compression_ratio_threshold
    """A text with a higher gzip compression ratio repeats itself: it failed."""
    logprob_threshold: float | None = _DEFAULTS.logprob_threshold
    """A result with a lower mean log-probability failed."""
    no_speech_threshold: float | None = _DEFAULTS.no_speech_threshold
    """A window with a higher probability of silence is silent where its mean log-probability failed."""
    hallucination_filter: bool = _DEFAULTS.hallucination_filter
    """Leave out windows in which nobody speaks, believe no text far from any voice, cut loops; what is left out is
    listed in the json. `--no_hallucination_filter` switches that off."""
    seed: int = _DEFAULTS.seed
    """Of drawing: the same one gives the same text whatever the batch."""
    deterministic: bool = _DEFAULTS.deterministic
    """With and without an assistant the same to the last bit, in every dtype; slower."""
    batch_size: int = _DEFAULTS.batch_size
    """Windows decoded at a time, over files."""

    def options(self) -> DecodingOptions:
        """The same for the decoder. Raises `SettingsError` that lists all problems."""
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
        """The ladder: 0, 0.2, ... 1 by default."""
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
