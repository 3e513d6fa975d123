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
from whisperstill.text.languages import UNSPACED
from whisperstill.text.vocabulary import Vocabulary

_OPENING = frozenset("\"'“‘¿¡([{-«‹「『（【《〈")
_ANCHORS = ("<|endoftext|>", "<|startoftranscript|>", "<|transcribe|>", "<|notimestamps|>")


@dataclass(frozen=True, slots=True)
class TokenWord:
    """A word and the tokens it is made of."""

    text: str
    """As decoded, with the space in front of it."""
    first: int
    last: int
    """Its tokens are `ids[first:last]` of the ids that were given."""


class Tokenizer:
    """Whisper's tokenizer; make it with `Tokenizer.from_bytes` or `Tokenizer.from_file`."""

    def __init__(self, pieces: tokenizers.Tokenizer, vocabulary: Vocabulary) -> None:
        self._pieces = pieces
        self.vocabulary = vocabulary

    @classmethod
    def from_bytes(cls, content: bytes, vocab_size: int) -> "Tokenizer":
        """The tokenizer in the bytes of a `tokenizer.json`, for a vocabulary of `vocab_size` tokens.

        Raises `CheckpointError` when it cannot be read or when its special tokens are not those of that vocabulary.
        """
        vocabulary = Vocabulary.of(vocab_size)
        try:
            description = json.loads(content)
            known = dict(description["model"]["vocab"])
            known |= {token["content"]: token["id"] for token in description.get("added_tokens") or ()}
            # Without added tokens nothing in a text can become a special token.
            plain = {**description, "added_tokens": [], "post_processor": None}
            pieces = tokenizers.Tokenizer.from_str(json.dumps(plain))
        except Exception as error:  # the library raises bare Exception for whatever it cannot read
            raise CheckpointError(f"expected a readable tokenizer.json, got one that fails with: {error}") from error
        expected = (
            vocabulary.end_of_text,
            vocabulary.start_of_transcript,
            vocabulary.transcribe,
            vocabulary.no_timestamps,
        )
        for name, token in zip(_ANCHORS, expected, strict=True):
            if known.get(name, token) != token:
                raise CheckpointError(
                    f"expected {name} to be token {token} in a vocabulary of {vocab_size}, the tokenizer has "
                    f"{known[name]}; use the tokenizer that belongs to this checkpoint"
                )
        return cls(pieces, vocabulary)

    @classmethod
    def from_file(cls, path: str | Path, vocab_size: int) -> "Tokenizer":
        """The tokenizer in a `tokenizer.json`; `NotFoundError` when there is none, else as `from_bytes`."""
        file = Path(path)
        if not file.is_file():
            raise NotFoundError(f"expected a tokenizer.json at {file}, there is none")
        return cls.from_bytes(file.read_bytes(), vocab_size)

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without special tokens. Whisper's transcripts begin with a space: that is the caller's."""
        ids: list[int] = self._pieces.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; special tokens and timestamps are dropped, bytes that are no UTF-8 become U+FFFD."""
        return b"".join(self._bytes[i] for i in ids if self.vocabulary.is_text(i)).decode("utf-8", errors="replace")

    def bytes_of(self, token: int) -> bytes:
        """The bytes that a text token stands for: a piece of UTF-8, not always whole characters."""
        return self._bytes[token]

    def decode_with_timestamps(self, ids: Iterable[int]) -> str:
        """As `decode`, but timestamps stand in it as `<|1.20|>`."""
        parts: list[str] = []
        text: list[int] = []
        for i in ids:
            if self.vocabulary.is_timestamp(i):
                parts += [self.decode(text), f"<|{self.vocabulary.timestamp_seconds(i):.2f}|>"]
                text = []
            else:
                text.append(i)
        return "".join([*parts, self.decode(text)])

    def words(self, ids: Sequence[int], language: str | None) -> list[TokenWord]:
        """The words of a transcript, each with its tokens; their texts joined are `decode(ids)`.

        A word starts at a token that begins with white space; in languages written without spaces (`UNSPACED`) at
        every whole character. Punctuation that stands alone is glued to the word before it, an opening quote or
        bracket to the word after it. Special tokens and timestamps belong to no word, and end the word before them.
        Unlike openai/whisper, `U.S.` and `10:30` stay whole: words here are those of `text.split()`.
        """
        words: list[TokenWord] = []
        for run in _runs(ids, self.vocabulary):
            units = list(self._characters(ids, run))
            if language not in UNSPACED:
                units = _joined_at_spaces(units)
            words += _with_punctuation(units)
        return words

    def _characters(self, ids: Sequence[int], run: range) -> Iterator[TokenWord]:
        """The shortest groups of tokens that are whole characters."""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        text, first = "", run.start
        for at in run:
            text += decoder.decode(self._bytes[ids[at]], final=at == run.stop - 1)
            if not decoder.getstate()[0]:
                yield TokenWord(text, first, at + 1)
                text, first = "", at + 1

    @cached_property
    def _bytes(self) -> list[bytes]:
        """The bytes of every text token, by id."""
        alphabet = _byte_alphabet()
        pieces = (self._pieces.id_to_token(i) or "" for i in range(self.vocabulary.end_of_text))
        return [bytes(alphabet[c] for c in piece) for piece in pieces]


def _runs(ids: Sequence[int], vocabulary: Vocabulary) -> Iterator[range]:
    """Stretches of text tokens between special ones."""
    first = 0
    for at, token in enumerate(ids):
        if not vocabulary.is_text(token):
            if at > first:
                yield range(first, at)
            first = at + 1
    if len(ids) > first:
        yield range(first, len(ids))


def _joined_at_spaces(units: list[TokenWord]) -> list[TokenWord]:
    words: list[TokenWord] = []
    for unit in units:
        if words and not unit.text[:1].isspace():
            words[-1] = _merge(words[-1], unit)
        else:
            words.append(unit)
    return words


def _with_punctuation(units: list[TokenWord]) -> list[TokenWord]:
    """Units without letter or digit joined to a neighbour; a run of nothing but punctuation stays one word."""
    words: list[TokenWord] = []
    opening: TokenWord | None = None
    for unit in units:
        bare = unit.text.strip()
        if any(c.isalnum() for c in bare):
            words.append(unit if opening is None else _merge(opening, unit))
            opening = None
        elif opening is not None:
            opening = _merge(opening, unit)
        elif (bare and all(c in _OPENING for c in bare) and _opens(unit, words)) or not words:
            opening = unit
        else:
            words[-1] = _merge(words[-1], unit)
    if opening is not None:
        words[-1:] = [_merge(words[-1], opening)] if words else [opening]
    return words


def _opens(unit: TokenWord, words: list[TokenWord]) -> bool:
    """A straight quote or hyphen opens only after a space; brackets and typographic quotes always do."""
    return unit.text[:1].isspace() or not words or unit.text.strip() not in {'"', "'", "-"}


def _merge(left: TokenWord, right: TokenWord) -> TokenWord:
    return TokenWord(left.text + right.text, left.first, right.last)


def _byte_alphabet() -> dict[str, int]:
    """The character by which GPT-2's byte-level tokens write each byte, and the byte it stands for.

    Printable Latin-1 characters stand for themselves, the 68 others for the characters from U+0100 on.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (byte for byte in range(256) if byte not in printable)
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}
