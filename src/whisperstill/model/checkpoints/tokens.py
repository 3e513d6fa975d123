"""Special tokens of `tokenizer.json`, and the generation config derived from it if a format has none."""

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from whisperstill.errors import CheckpointError
from whisperstill.model.dims import Dims
from whisperstill.model.generation_config import GenerationConfig, default_alignment_heads
from whisperstill.units import TIMESTAMP_STEP_SECONDS, TIMESTAMP_TOKENS

# Annotation symbols; openai/whisper suppresses those that are a single token.
_ANNOTATION_SYMBOLS = (
    *'"#()*+/:;<=>@[\\]^_`{|}~「」『』',
    *("<<", ">>", "<<<", ">>>", "--", "---", "-(", "-[", "('", '("', "((", "))", "(((", ")))", "[[", "]]", "{{", "}}"),
    *("♪♪", "♪♪♪"),
)
_MUSIC_SYMBOLS = "♩♪♫♬♭♮♯"  # several tokens each; their first token is suppressed
_START_TOKENS = ("<|startoftranscript|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>")
_NO_SPEECH_NAMES = ("<|nospeech|>", "<|nocaptions|>")
"""The name, and that of older tokenizers."""


@lru_cache(maxsize=4)
def read_special_tokens(tokenizer_json: bytes) -> Mapping[str, int]:
    """Text of every special token -> id, in the order of the ids, up to `<|notimestamps|>`, as in the file.

    Raises `CheckpointError` if this is not a tokenizer of Whisper.
    """
    try:
        content = json.loads(tokenizer_json)
        ids = {token: int(token_id) for token, token_id in content["model"]["vocab"].items() if token.startswith("<|")}
        ids |= {token["content"]: int(token["id"]) for token in content["added_tokens"]}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError("tokenizer.json is damaged or not a tokenizer of Whisper; download it again") from error
    no_speech = next((token for token in _NO_SPEECH_NAMES if token in ids), _NO_SPEECH_NAMES[0])
    required = (*_START_TOKENS, no_speech, "<|endoftext|>", "<|notimestamps|>")
    if missing := [token for token in required if token not in ids]:
        raise CheckpointError(f"tokenizer.json has no {missing[0]}: expected a tokenizer of Whisper")
    special = {token: token_id for token, token_id in ids.items() if token_id <= ids["<|notimestamps|>"]}
    return MappingProxyType(dict(sorted(special.items(), key=lambda pair: pair[1])))


def vocabulary_size(tokenizer_json: bytes) -> int:
    """Tokens of a tokenizer: timestamps follow `<|notimestamps|>` and come last."""
    return read_special_tokens(tokenizer_json)["<|notimestamps|>"] + 1 + TIMESTAMP_TOKENS


def language_ids(special_tokens: Mapping[str, int]) -> dict[str, int]:
    """Language code -> id; English vocabularies have them too, unused."""
    first, stop = special_tokens["<|startoftranscript|>"] + 1, special_tokens["<|translate|>"]
    return {token.strip("<|>"): token_id for token, token_id in special_tokens.items() if first <= token_id < stop}


def check_vocab_size(tokenizer_json: bytes, dims: Dims, display_name: str) -> None:
    """Raises `CheckpointError` unless the tokenizer has as many tokens as the weights."""
    size = vocabulary_size(tokenizer_json)
    if size != dims.vocab_size:
        raise CheckpointError(
            f"{display_name}: expected a tokenizer of {dims.vocab_size} tokens for these weights, got one of {size};"
            " put the tokenizer.json of this model beside them"
        )


def default_generation_config(tokenizer_json: bytes, dims: Dims) -> GenerationConfig:
    """Tokens that openai/whisper suppresses, derived from the tokenizer, and default alignment heads."""
    special, tokenizer = read_special_tokens(tokenizer_json), Tokenizer.from_str(tokenizer_json.decode())

    def encode(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    suppress = {encode(" -")[0], encode(" '")[0]}
    for text in (variant for symbol in _ANNOTATION_SYMBOLS for variant in (symbol, " " + symbol)):
        ids = encode(text)
        if len(ids) == 1:
            suppress.add(ids[0])
    suppress |= {encode(variant)[0] for symbol in _MUSIC_SYMBOLS for variant in (symbol, " " + symbol)}
    suppress |= {special[token] for token in (*_START_TOKENS, *_NO_SPEECH_NAMES) if token in special}
    return GenerationConfig(
        suppress_tokens=tuple(sorted(suppress)),
        begin_suppress_tokens=(encode(" ")[0], special["<|endoftext|>"]),
        alignment_heads=default_alignment_heads(dims),
    )


@lru_cache(maxsize=2)
def add_timestamp_tokens(tokenizer_json: bytes) -> bytes:
    """The tokenizer with `<|0.00|>` ... `<|30.00|>` as ordinary added tokens, as openai publishes it."""
    content: dict[str, Any] = json.loads(tokenizer_json)
    known_ids = {token["id"] for token in content["added_tokens"]}
    first_timestamp = read_special_tokens(tokenizer_json)["<|notimestamps|>"] + 1
    for index in range(TIMESTAMP_TOKENS):
        if first_timestamp + index not in known_ids:
            text = f"<|{index * TIMESTAMP_STEP_SECONDS:.2f}|>"
            flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
            content["added_tokens"].append({"id": first_timestamp + index, "content": text, **flags})
    return json.dumps(content, ensure_ascii=False).encode()


def build_tokenizer_json(directory: Path) -> bytes:
    """Builds `tokenizer.json` from `vocab.json`, `merges.txt` and `added_tokens.json` (optional)."""
    try:
        vocab: dict[str, int] = json.loads((directory / "vocab.json").read_text("utf-8"))
        lines = (directory / "merges.txt").read_text("utf-8").split("\n")
        merges = [(left, right) for left, _, right in (line.partition(" ") for line in lines if line) if right]
        if merges and merges[0][0] == "#version:":
            del merges[0]
        added_file = directory / "added_tokens.json"
        added: dict[str, int] = json.loads(added_file.read_text("utf-8")) if added_file.exists() else {}
        tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        last_special = added.get("<|notimestamps|>", vocab.get("<|notimestamps|>", -1))
        added = {**added, "<|endoftext|>": vocab["<|endoftext|>"]}
        ordered = sorted(added, key=lambda text: added[text])
        special = [text for text in ordered if added[text] <= last_special]
        tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in special])
        tokenizer.add_tokens([AddedToken(text, normalized=False) for text in ordered[len(special) :]])
        mismatched = [text for text in ordered if tokenizer.token_to_id(text) != added[text]]
        if mismatched:
            raise CheckpointError(
                f"vocab.json and added_tokens.json do not match: expected {mismatched[0]} to be {added[mismatched[0]]},"
                f" got {tokenizer.token_to_id(mismatched[0])}; download them again"
            )
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError("vocab.json and merges.txt are not Whisper's tokenizer; download them again") from error
    return tokenizer.to_str().encode()
