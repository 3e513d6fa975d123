"""Text to token ids and back, and token ids grouped into words.

Whisper's tokens are pieces of UTF-8 bytes, so one character can lie over several tokens. Ids are turned back to bytes
here, by the byte alphabet of GPT-2, and only whole characters become text. Special tokens come from the vocabulary
(`text.vocabulary`), never from text: the string `<|endoftext|>` in a transcript is encoded as the characters it is.
"""

import codecs
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import tokenizers

from whisperstill.errors import CheckpointError, NotFoundError
from whisperstill.text.languages import UNSPACED_LANGUAGES
from whisperstill.text.vocabulary import Vocabulary

_OPENING_PUNCTUATION = frozenset("\"'“‘¿¡([{-«‹「『（【《〈")
_CHECKED_TOKENS = ("<|endoftext|>", "<|startoftranscript|>", "<|transcribe|>", "<|notimestamps|>")


@dataclass(frozen=True, slots=True)
class TokenWord:
    """A word and the tokens it is made of."""

    text: str
    """As decoded, with the space in front of it."""
    token_start: int
    token_end: int
    """Its tokens are `ids[token_start:token_end]` of the ids that were given."""


class Tokenizer:
    """Whisper's tokenizer; make it with `Tokenizer.from_bytes` or `Tokenizer.from_file`."""

    def __init__(self, backend: tokenizers.Tokenizer, vocabulary: Vocabulary) -> None:
        self._backend = backend
        self.vocabulary = vocabulary

    @classmethod
    def from_bytes(cls, content: bytes, vocab_size: int) -> "Tokenizer":
        """The tokenizer in the bytes of a `tokenizer.json`, for a vocabulary of `vocab_size` tokens.

        Raises `CheckpointError` when it cannot be read or when its special tokens are not those of that vocabulary.
        """
        vocabulary = Vocabulary.from_size(vocab_size)
        try:
            description = json.loads(content)
            known_ids = dict(description["model"]["vocab"])
            known_ids |= {token["content"]: token["id"] for token in description.get("added_tokens") or ()}
            # Without added tokens nothing in a text can become a special token.
            without_added_tokens = {**description, "added_tokens": [], "post_processor": None}
            backend = tokenizers.Tokenizer.from_str(json.dumps(without_added_tokens))
        except Exception as error:  # the library raises bare Exception for whatever it cannot read
            raise CheckpointError(f"expected a readable tokenizer.json, got one that fails with: {error}") from error
        expected = (
            vocabulary.end_of_text,
            vocabulary.start_of_transcript,
            vocabulary.transcribe,
            vocabulary.no_timestamps,
        )
        for name, token in zip(_CHECKED_TOKENS, expected, strict=True):
            if known_ids.get(name, token) != token:
                raise CheckpointError(
                    f"expected {name} to be token {token} in a vocabulary of {vocab_size}, the tokenizer has "
                    f"{known_ids[name]}; use the tokenizer that belongs to this checkpoint"
                )
        return cls(backend, vocabulary)

    @classmethod
    def from_file(cls, path: str | Path, vocab_size: int) -> "Tokenizer":
        """The tokenizer in a `tokenizer.json`; `NotFoundError` when there is none, else as `from_bytes`."""
        file = Path(path)
        if not file.is_file():
            raise NotFoundError(f"expected a tokenizer.json at {file}, there is none")
        return cls.from_bytes(file.read_bytes(), vocab_size)

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without special tokens. Whisper's transcripts begin with a space: that is the caller's."""
        ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; special tokens and timestamps are dropped, bytes that are no UTF-8 become U+FFFD."""
        return b"".join(self._token_bytes[token] for token in ids if self.vocabulary.is_text(token)).decode(
            "utf-8", errors="replace"
        )

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a text token stands for: a piece of UTF-8, not always whole characters."""
        return self._token_bytes[token]

    def split_to_word_tokens(self, ids: Sequence[int], language: str | None) -> list[TokenWord]:
        """The words of a transcript, each with its tokens; their texts joined are `decode(ids)`.

        A word starts at a token that begins with white space; in `UNSPACED_LANGUAGES` at every
        whole character. Punctuation that stands alone is glued to the word before it, an opening quote or
        bracket to the word after it. Special tokens and timestamps belong to no word, and end the word before them.
        Unlike openai/whisper, `U.S.` and `10:30` stay whole: words here are those of `text.split()`.
        """
        words: list[TokenWord] = []
        for token_range in _text_token_ranges(ids, self.vocabulary):
            units = list(self._whole_characters(ids, token_range))
            if language not in UNSPACED_LANGUAGES:
                units = _merge_at_spaces(units)
            words += _merge_punctuation(units)
        return words

    def _whole_characters(self, ids: Sequence[int], token_range: range) -> Iterator[TokenWord]:
        """The shortest groups of tokens that are whole characters."""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        text, token_start = "", token_range.start
        for index in token_range:
            text += decoder.decode(self._token_bytes[ids[index]], final=index == token_range.stop - 1)
            if not decoder.getstate()[0]:
                yield TokenWord(text, token_start, index + 1)
                text, token_start = "", index + 1

    @cached_property
    def _token_bytes(self) -> list[bytes]:
        """The bytes of every text token, by id."""
        byte_decoder = _byte_decoder()
        token_strings = (self._backend.id_to_token(token) or "" for token in range(self.vocabulary.end_of_text))
        return [bytes(byte_decoder[c] for c in token_string) for token_string in token_strings]


def _text_token_ranges(ids: Sequence[int], vocabulary: Vocabulary) -> Iterator[range]:
    """Stretches of text tokens between special ones."""
    start = 0
    for index, token in enumerate(ids):
        if not vocabulary.is_text(token):
            if index > start:
                yield range(start, index)
            start = index + 1
    if len(ids) > start:
        yield range(start, len(ids))


def _merge_at_spaces(units: list[TokenWord]) -> list[TokenWord]:
    words: list[TokenWord] = []
    for unit in units:
        if words and not unit.text[:1].isspace():
            words[-1] = _merge(words[-1], unit)
        else:
            words.append(unit)
    return words


def _merge_punctuation(units: list[TokenWord]) -> list[TokenWord]:
    """Units without letter or digit joined to a neighbour; a run of nothing but punctuation stays one word."""
    words: list[TokenWord] = []
    opening: TokenWord | None = None
    for unit in units:
        stripped = unit.text.strip()
        if any(character.isalnum() for character in stripped):
            words.append(unit if opening is None else _merge(opening, unit))
            opening = None
        elif opening is not None:
            opening = _merge(opening, unit)
        elif (
            stripped and all(character in _OPENING_PUNCTUATION for character in stripped) and _is_opening(unit, words)
        ) or not words:
            opening = unit
        else:
            words[-1] = _merge(words[-1], unit)
    if opening is not None:
        words[-1:] = [_merge(words[-1], opening)] if words else [opening]
    return words


def _is_opening(unit: TokenWord, words: list[TokenWord]) -> bool:
    """A straight quote or hyphen opens only after a space; brackets and typographic quotes always do."""
    return unit.text[:1].isspace() or not words or unit.text.strip() not in {'"', "'", "-"}


def _merge(left: TokenWord, right: TokenWord) -> TokenWord:
    return TokenWord(left.text + right.text, left.token_start, right.token_end)


def _byte_decoder() -> dict[str, int]:
    """The character by which GPT-2's byte-level tokens write each byte, and the byte it stands for.

    Printable Latin-1 characters stand for themselves, the 68 others for the characters from U+0100 on.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    unprintable = (byte for byte in range(256) if byte not in printable)
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(unprintable)}
