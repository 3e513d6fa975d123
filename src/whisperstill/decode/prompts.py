"""Prompt tokens: the previous text and hotwords that stand before a window's transcript."""

from collections.abc import Sequence

from whisperstill.errors import SettingsError
from whisperstill.text.tokenizer import Tokenizer
from whisperstill.units import MAX_PROMPT_TOKENS


def tokenize_text(tokenizer: Tokenizer, text: str | Sequence[int] | None) -> list[int]:
    """Token ids of a text inside a transcript, so with a leading space; ids are returned as they are.

    Raises `SettingsError` for an id that is not in the vocabulary.
    """
    if not isinstance(text, str | None):
        vocab_size = tokenizer.vocabulary.size
        if invalid := [token for token in text if not 0 <= token < vocab_size]:
            raise SettingsError(f"initial_prompt must be text or ids of 0 to {vocab_size - 1}, got {invalid[0]}")
        return list(text)
    text = (text or "").strip()
    return tokenizer.encode(f" {text}") if text else []


def build_prompt(
    tokenizer: Tokenizer, previous_text: str | Sequence[int] | None, hotwords: str | None = None
) -> tuple[int, ...]:
    """`<|startofprev|>`, the hotwords and the end of the previous text (or of its ids); empty if both are.

    At most `MAX_PROMPT_TOKENS` follow `<|startofprev|>`, the hotwords at most half of them.
    """
    hotword_tokens = tokenize_text(tokenizer, hotwords)[: MAX_PROMPT_TOKENS // 2]
    previous_tokens = tokenize_text(tokenizer, previous_text)
    prompt_tokens = [*hotword_tokens, *previous_tokens[len(hotword_tokens) - MAX_PROMPT_TOKENS :]]
    return (tokenizer.vocabulary.start_of_previous, *prompt_tokens) if prompt_tokens else ()
