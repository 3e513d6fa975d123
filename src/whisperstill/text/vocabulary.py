"""Special token ids, derived from the size of the vocabulary alone.

    text 0 .. | <|endoftext|> <|startoftranscript|> | languages | translate transcribe startoflm startofprev
    nospeech notimestamps | <|0.00|> <|0.02|> ... <|30.00|>

The English-only vocabulary has one text token less and 99 language tokens that it never uses; large-v3 has one language
more. The three sizes differ by one each, so the size identifies the vocabulary.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice

from whisperstill.errors import CheckpointError, SettingsError
from whisperstill.text.languages import LANGUAGES, language_code
from whisperstill.units import TIMESTAMP_STEP_SECONDS, TIMESTAMP_TOKENS, WINDOW_SECONDS

ENGLISH_VOCAB_SIZE = 51864
MULTILINGUAL_VOCAB_SIZE = 51865
LARGE_V3_VOCAB_SIZE = 51866
_TASKS = ("translate", "transcribe")


@dataclass(frozen=True)
class Vocabulary:
    """Special token ids of one of Whisper's three vocabularies; built by `Vocabulary.from_size(size)`."""

    size: int
    """Number of tokens, with timestamps."""
    multilingual: bool
    """Whether the start tokens include a language and a task."""
    end_of_text: int
    """`<|endoftext|>`; ids below it are text, ids above it are special."""
    start_of_transcript: int
    language_codes: tuple[str, ...]
    """Languages in the order of their tokens, which follow `start_of_transcript` (unused if English-only)."""
    translate: int
    transcribe: int
    start_of_lm: int
    start_of_previous: int
    """`<|startofprev|>`, before the text of the previous window."""
    no_speech: int
    """`<|nospeech|>`, called `<|nocaptions|>` in older tokenizers."""
    no_timestamps: int
    timestamp_begin: int
    """`<|0.00|>`; all ids from here on are timestamps."""

    @classmethod
    def from_size(cls, size: int) -> "Vocabulary":
        """Vocabulary of `size` tokens: 51864 English-only, 51865 multilingual, 51866 from large-v3 on.

        Raises `CheckpointError` for any other size.
        """
        return _cached_vocabulary(size)

    @cached_property
    def languages(self) -> dict[str, int]:
        """Token id by language code; empty in the English-only vocabulary."""
        first_token = self.start_of_transcript + 1
        return {code: first_token + i for i, code in enumerate(self.language_codes)} if self.multilingual else {}

    @property
    def always_suppressed(self) -> tuple[int, ...]:
        """Special tokens that never occur inside a transcript; openai/whisper always suppresses them."""
        task_tokens = (self.translate, self.transcribe)
        return (self.start_of_transcript, *task_tokens, self.start_of_lm, self.start_of_previous, self.no_speech)

    def sot_sequence(self, language: str | None, task: str = "transcribe", timestamps: bool = False) -> tuple[int, ...]:
        """Start tokens of a transcript.

        `<|startoftranscript|> <|language|> <|task|>` if multilingual, else `<|startoftranscript|>`; without
        `timestamps` followed by `<|notimestamps|>`. Raises `SettingsError` for a language or task that the vocabulary
        does not have, and for a missing language.
        """
        if task not in _TASKS:
            raise SettingsError(f"expected task 'transcribe' or 'translate', got {task!r}")
        suffix = () if timestamps else (self.no_timestamps,)
        if not self.multilingual:
            if (language is not None and language_code(language) != "en") or task != "transcribe":
                raise SettingsError(
                    f"this model supports only English transcription, got language {language!r} and task {task!r}; "
                    "use a multilingual model"
                )
            return (self.start_of_transcript, *suffix)
        if language is None:
            raise SettingsError("expected a language for a multilingual model, got none; name it or detect it first")
        return (self.start_of_transcript, self.language_token(language), getattr(self, task), *suffix)

    def language_token(self, language: str) -> int:
        """Token id of a language given as code, tag or English name. Raises `SettingsError` when it has none."""
        code = language_code(language)
        if code not in self.languages:
            raise SettingsError(f"no language {language!r} in this model; it has {', '.join(self.languages) or 'en'}")
        return self.languages[code]

    def is_text(self, token: int) -> bool:
        """Whether a token is neither special nor a timestamp."""
        return 0 <= token < self.end_of_text

    def is_timestamp(self, token: int) -> bool:
        """Whether a token is a timestamp."""
        return token >= self.timestamp_begin

    def timestamp_seconds(self, token: int) -> float:
        """Time of a timestamp token, in seconds from the start of the window. Raises `ValueError` for other tokens."""
        if not self.timestamp_begin <= token < self.size:
            raise ValueError(f"expected a timestamp token, got {token}")
        return round((token - self.timestamp_begin) * TIMESTAMP_STEP_SECONDS, 2)

    def timestamp_token(self, seconds: float) -> int:
        """Timestamp token nearest to `seconds`. Raises `ValueError` outside 0 to 30 s."""
        if not 0 <= seconds <= WINDOW_SECONDS:
            raise ValueError(f"expected a time of 0 to {WINDOW_SECONDS} s, got {seconds}")
        return self.timestamp_begin + round(seconds / TIMESTAMP_STEP_SECONDS)


@lru_cache(maxsize=8)
def _cached_vocabulary(size: int) -> Vocabulary:
    if size not in (ENGLISH_VOCAB_SIZE, MULTILINGUAL_VOCAB_SIZE, LARGE_V3_VOCAB_SIZE):
        raise CheckpointError(
            f"expected a Whisper vocabulary of {ENGLISH_VOCAB_SIZE} (English), "
            f"{MULTILINGUAL_VOCAB_SIZE} (multilingual) or {LARGE_V3_VOCAB_SIZE} (large-v3) tokens, "
            f"got {size}; this is not a Whisper checkpoint"
        )
    multilingual = size != ENGLISH_VOCAB_SIZE
    end_of_text = 50257 if multilingual else 50256
    languages = tuple(islice(LANGUAGES, 100 if size == LARGE_V3_VOCAB_SIZE else 99))
    translate = end_of_text + 2 + len(languages)
    timestamp_begin = translate + 6
    assert timestamp_begin + TIMESTAMP_TOKENS == size
    task_and_later_tokens = range(translate, timestamp_begin + 1)
    return Vocabulary(size, multilingual, end_of_text, end_of_text + 1, languages, *task_and_later_tokens)
