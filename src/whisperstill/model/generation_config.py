"""Which tokens a model must not say, and which attention heads follow the audio: what travels with the weights."""

from dataclasses import dataclass

from whisperstill.model.dims import Dims


@dataclass(frozen=True, slots=True)
class GenerationConfig:
    """The settings of greedy decoding that belong to a set of weights."""

    suppress_tokens: tuple[int, ...]
    """Token ids that are never said: annotations such as `[` or music notes, and the special tokens."""
    begin_suppress_tokens: tuple[int, ...]
    """Token ids that may not be the first one of a transcript: a lone space, the end of text."""
    alignment_heads: tuple[tuple[int, int], ...]
    """(decoder layer, head) whose cross-attention follows the audio: word timestamps are read from them."""
    language: str | None = None
    """ISO 639-1 code a multilingual model is used with when none is named; None: detect it."""
    task: str = "transcribe"
    """`transcribe` or `translate`: what other tools do with it when nothing is named; ours transcribe."""


def default_alignment_heads(dims: Dims) -> tuple[tuple[int, int], ...]:
    """Every head of the last half of the decoder's layers: openai/whisper's choice where nobody measured better."""
    first_layer = dims.decoder_layers // 2
    return tuple(
        (layer, head) for layer in range(first_layer, dims.decoder_layers) for head in range(dims.decoder_heads)
    )


def remap_alignment_heads(
    heads: tuple[tuple[int, int], ...], kept_layers: tuple[int, ...], student_dims: Dims
) -> tuple[tuple[int, int], ...]:
    """A teacher's alignment heads as the student's.

    Heads of a kept layer follow it to its new index, heads of a layer that is gone are dropped. Where none is left
    the default of `default_alignment_heads` stands in.
    """
    new_index = {teacher_layer: student_layer for student_layer, teacher_layer in enumerate(kept_layers)}
    remapped = tuple(
        (new_index[layer], head) for layer, head in heads if layer in new_index and head < student_dims.decoder_heads
    )
    return remapped or default_alignment_heads(student_dims)
