"""What the special token ids mean, derived from the size of the vocabulary alone.

    text 0 .. | <|endoftext|> <|startoftranscript|> | languages | translate transcribe startoflm startofprev
    nospeech notimestamps | <|0.00|> <|0.02|> ... <|30.00|>

The English-only vocabulary has one text token less and keeps 99 language tokens that it never uses; large-v3 has one
language more. So the three sizes differ by one each, and the size tells which vocabulary it is.
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
    """Special token ids of one of Whisper's three vocabularies; make it with `Vocabulary.from_size(size)`."""

    size: int
    """Number of tokens, timestamps included."""
    multilingual: bool
    """Whether the start tokens name a language and a task."""
    end_of_text: int
    """Ends a transcript; all ids below it are text, all others are special."""
    start_of_transcript: int
    language_codes: tuple[str, ...]
    """Languages in the order of their tokens, which follow `start_of_transcript` (unused in the English-only one)."""

    @classmethod
    def from_size(cls, size: int) -> "Vocabulary":
        """The vocabulary with `size` tokens: 51864 English-only, 51865 multilingual, 51866 from large-v3 on.

        Raises `CheckpointError` for any other size.
        """
        return _cached_vocabulary(size)

    @cached_property
    def languages(self) -> dict[str, int]:
        """Token id by language code; empty in the English-only vocabulary."""
        first_token = self.start_of_transcript + 1
        return {code: first_token + i for i, code in enumerate(self.language_codes)} if self.multilingual else {}

    @cached_property
    def _code_by_token(self) -> dict[int, str]:
        return {token: code for code, token in self.languages.items()}

    @property
    def translate(self) -> int:
        return self.start_of_transcript + 1 + len(self.language_codes)

    @property
    def transcribe(self) -> int:
        return self.translate + 1

    @property
    def start_of_lm(self) -> int:
        return self.translate + 2

    @property
    def start_of_previous(self) -> int:
        """Stands before the text of the previous window (`<|startofprev|>`)."""
        return self.translate + 3

    @property
    def no_speech(self) -> int:
        """`<|nospeech|>`, called `<|nocaptions|>` in older tokenizers."""
        return self.translate + 4

    @property
    def no_timestamps(self) -> int:
        return self.translate + 5

    @property
    def timestamp_begin(self) -> int:
        """`<|0.00|>`; this and every id after it is a timestamp."""
        return self.translate + 6

    @property
    def always_suppressed(self) -> tuple[int, ...]:
        """Special tokens that only ever stand before a transcript; openai/whisper suppresses them, come what may."""
        task_tokens = (self.translate, self.transcribe)
        return (self.start_of_transcript, *task_tokens, self.start_of_lm, self.start_of_previous, self.no_speech)

    def sot_sequence(self, language: str | None, task: str = "transcribe", timestamps: bool = False) -> tuple[int, ...]:
        """The tokens a transcript starts with.

        Multilingual: `<|startoftranscript|> <|language|> <|task|>`, English-only `<|startoftranscript|>`; both with
        `<|notimestamps|>` after it unless timestamps are wanted. Raises `SettingsError` for a language or a task that
        the vocabulary does not have, and for a multilingual one without a language.
        """
        if task not in _TASKS:
            raise SettingsError(f"expected task 'transcribe' or 'translate', got {task!r}")
        suffix = () if timestamps else (self.no_timestamps,)
        if not self.multilingual:
            if (language is not None and language_code(language) != "en") or task != "transcribe":
                raise SettingsError(
                    f"this model knows only English transcription, got language {language!r} and task {task!r}; "
                    "use a multilingual model"
                )
            return (self.start_of_transcript, *suffix)
        if language is None:
            raise SettingsError("a multilingual model needs a language, got none; name it or detect it first")
        return (self.start_of_transcript, self.language_token(language), getattr(self, task), *suffix)

    def language_token(self, language: str) -> int:
        """Token id of a language given as code, tag or English name; `SettingsError` when it has none."""
        code = language_code(language)
        if code not in self.languages:
            raise SettingsError(
                f"this model has no language {language!r}; it knows {', '.join(self.languages) or 'en'}"
            )
        return self.languages[code]

    def language_from_token(self, token: int) -> str:
        """The language code of a language token; `ValueError` for any other token."""
        if token not in self._code_by_token:
            raise ValueError(f"token {token} is no language token")
        return self._code_by_token[token]

    def is_text(self, token: int) -> bool:
        """Whether the token is neither special nor a timestamp."""
        return 0 <= token < self.end_of_text

    def is_timestamp(self, token: int) -> bool:
        """Whether a token says a time."""
        return token >= self.timestamp_begin

    def timestamp_seconds(self, token: int) -> float:
        """Seconds from the start of the window of a timestamp token; `ValueError` for any other token."""
        if not self.timestamp_begin <= token < self.size:
            raise ValueError(f"token {token} is no timestamp")
        return round((token - self.timestamp_begin) * TIMESTAMP_STEP_SECONDS, 2)

    def timestamp_token(self, seconds: float) -> int:
        """The timestamp token nearest to `seconds` (0 to 30); `ValueError` outside."""
        if not 0 <= seconds <= WINDOW_SECONDS:
            raise ValueError(f"a timestamp lies between 0 and {WINDOW_SECONDS} s, got {seconds}")
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
    vocabulary = Vocabulary(size, multilingual, end_of_text, end_of_text + 1, languages)
    assert vocabulary.timestamp_begin + TIMESTAMP_TOKENS == size
    return vocabulary
