"""Generation settings stored with a checkpoint: suppressed tokens, alignment heads, default language and task."""

from dataclasses import dataclass

from whisperstill.model.dims import Dims


@dataclass(frozen=True, slots=True)
class GenerationConfig:
    """Generation settings of a checkpoint."""

    suppress_tokens: tuple[int, ...]
    """Token ids that are never decoded: annotations such as `[` or music notes, and special tokens."""
    begin_suppress_tokens: tuple[int, ...]
    """Token ids that may not begin a transcript: a lone space, the end of text."""
    alignment_heads: tuple[tuple[int, int], ...]
    """(decoder layer, head) pairs whose cross-attention follows the audio, for word timestamps."""
    language: str | None = None
    """Default language of a multilingual model, ISO 639-1; None: detect it."""
    task: str = "transcribe"
    """Default task for other tools, `transcribe` or `translate`; whisperstill itself transcribes by default."""


def default_alignment_heads(dims: Dims) -> tuple[tuple[int, int], ...]:
    """All heads of the last half of the decoder layers, openai/whisper's default."""
    first = dims.decoder_layers // 2
    return tuple((layer, head) for layer in range(first, dims.decoder_layers) for head in range(dims.decoder_heads))


def remap_alignment_heads(
    heads: tuple[tuple[int, int], ...], kept_layers: tuple[int, ...], dims: Dims
) -> tuple[tuple[int, int], ...]:
    """Alignment heads of a student with these layers of its teacher.

    Heads of kept layers are renumbered, others dropped; `default_alignment_heads` if none is left.
    """
    new_index = {teacher_layer: student_layer for student_layer, teacher_layer in enumerate(kept_layers)}
    remapped = tuple(
        (new_index[layer], head) for layer, head in heads if layer in new_index and head < dims.decoder_heads
    )
    return remapped or default_alignment_heads(dims)
