"""Whisper's tokenizer: text to token ids and back, and token ids grouped into words.

Tokens are sequences of UTF-8 bytes, so a character may span several tokens. Ids are decoded to bytes by GPT-2's byte
alphabet, and only complete characters become text. Special tokens come from the vocabulary (`text.vocabulary`), never
from text: the string `<|endoftext|>` in a transcript is encoded as ordinary characters.
"""

import codecs
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path

import tokenizers

from whisperstill.errors import CheckpointError, NotFoundError
from whisperstill.text.languages import UNSPACED_LANGUAGES
from whisperstill.text.vocabulary import Vocabulary

_OPENING_PUNCTUATION = frozenset("\"'“‘¿¡([{-«‹「『（【《〈")


@dataclass(frozen=True, slots=True)
class TokenWord:
    """A word and its tokens."""

    text: str
    """Decoded text with its leading space."""
    token_start: int
    token_end: int
    """The tokens are `ids[token_start:token_end]`."""


class Tokenizer:
    """Whisper's tokenizer; built by `Tokenizer.from_bytes` or `Tokenizer.from_file`."""

    def __init__(self, backend: tokenizers.Tokenizer, vocabulary: Vocabulary) -> None:
        self._backend = backend
        self.vocabulary = vocabulary

    @classmethod
    def from_bytes(cls, content: bytes, vocab_size: int) -> "Tokenizer":
        """Tokenizer from the content of a `tokenizer.json`, for a vocabulary of `vocab_size` tokens.

        Raises `CheckpointError` when it cannot be read, or has special tokens of another vocabulary.
        """
        vocabulary = Vocabulary.from_size(vocab_size)
        try:
            description = json.loads(content)
            known_ids = dict(description["model"]["vocab"])
            known_ids |= {token["content"]: token["id"] for token in description.get("added_tokens") or ()}
            # Without added tokens no text is encoded as a special token.
            without_added_tokens = {**description, "added_tokens": [], "post_processor": None}
            backend = tokenizers.Tokenizer.from_str(json.dumps(without_added_tokens))
        except Exception as error:  # tokenizers raises a plain Exception
            raise CheckpointError(f"expected a readable tokenizer.json, got: {error}") from error
        expected_ids = {
            "<|endoftext|>": vocabulary.end_of_text,
            "<|startoftranscript|>": vocabulary.start_of_transcript,
            "<|transcribe|>": vocabulary.transcribe,
            "<|notimestamps|>": vocabulary.no_timestamps,
        }
        for name, token in expected_ids.items():
            if known_ids.get(name, token) != token:
                raise CheckpointError(
                    f"expected {name} to be token {token} in a vocabulary of {vocab_size}, the tokenizer has "
                    f"{known_ids[name]}; use the tokenizer that belongs to this checkpoint"
                )
        return cls(backend, vocabulary)

    @classmethod
    def from_file(cls, path: str | Path, vocab_size: int) -> "Tokenizer":
        """Tokenizer from a `tokenizer.json`. Raises `NotFoundError` when it does not exist, else as `from_bytes`."""
        file = Path(path)
        if not file.is_file():
            raise NotFoundError(f"expected a tokenizer.json at {file}, there is none")
        return cls.from_bytes(file.read_bytes(), vocab_size)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens. Whisper's transcripts begin with a space; callers add it."""
        ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Text of token ids, without special tokens and timestamps; invalid UTF-8 becomes U+FFFD."""
        text_bytes = b"".join(self._token_bytes[token] for token in ids if self.vocabulary.is_text(token))
        return text_bytes.decode("utf-8", errors="replace")

    def token_bytes(self, token: int) -> bytes:
        """UTF-8 bytes of a text token, not always complete characters."""
        return self._token_bytes[token]

    def split_to_word_tokens(self, ids: Sequence[int], language: str | None) -> list[TokenWord]:
        """Words of a transcript with their tokens; their joined texts equal `decode(ids)`.

        A word starts at a token that begins with white space, in `UNSPACED_LANGUAGES` at every character. Separate
        punctuation is merged into the word before it, an opening quote or bracket into the word after it. Special
        tokens and timestamps end a word and belong to none. Unlike in openai/whisper, `U.S.` and `10:30` are one word,
        as in `text.split()`.
        """
        words: list[TokenWord] = []
        for token_range in _text_token_ranges(ids, self.vocabulary):
            # 1. Group tokens into complete characters.
            units = list(self._whole_characters(ids, token_range))
            # 2. Merge characters up to the next space into words.
            if language not in UNSPACED_LANGUAGES:
                units = _merge_at_spaces(units)
            # 3. Merge separate punctuation into its neighbour.
            words += _merge_punctuation(units)
        return words

    def _whole_characters(self, ids: Sequence[int], token_range: range) -> Iterator[TokenWord]:
        """Shortest groups of tokens that decode to complete characters."""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        text, token_start = "", token_range.start
        for index in token_range:
            text += decoder.decode(self._token_bytes[ids[index]], final=index == token_range.stop - 1)
            if not decoder.getstate()[0]:
                yield TokenWord(text, token_start, index + 1)
                text, token_start = "", index + 1

    @cached_property
    def _token_bytes(self) -> list[bytes]:
        byte_decoder = _byte_decoder()
        token_strings = (self._backend.id_to_token(token) or "" for token in range(self.vocabulary.end_of_text))
        return [bytes(byte_decoder[c] for c in token_string) for token_string in token_strings]


def _text_token_ranges(ids: Sequence[int], vocabulary: Vocabulary) -> Iterator[range]:
    for is_text, group in groupby(range(len(ids)), key=lambda index: vocabulary.is_text(ids[index])):
        indices = list(group)
        if is_text:
            yield range(indices[0], indices[-1] + 1)


def _merge_at_spaces(units: list[TokenWord]) -> list[TokenWord]:
    words: list[TokenWord] = []
    for unit in units:
        if words and not unit.text[:1].isspace():
            words[-1] = _merge(words[-1], unit)
        else:
            words.append(unit)
    return words


def _merge_punctuation(units: list[TokenWord]) -> list[TokenWord]:
    """Units without letters and digits merged into a neighbour; a range of punctuation alone becomes one word."""
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
    """Byte by the character that GPT-2's byte-level tokens use for it.

    Printable Latin-1 characters represent themselves; the other 68 bytes use the characters from U+0100 on.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    unprintable = (byte for byte in range(256) if byte not in printable)
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(unprintable)}
