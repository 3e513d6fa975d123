"""Sizes of a Whisper network."""

from dataclasses import dataclass

from whisperstill.errors import CheckpointError
from whisperstill.units import MAX_TARGET_POSITIONS, WINDOW_POSITIONS


@dataclass(frozen=True, slots=True)
class Dims:
    """Sizes of a Whisper network, of any depth. Raises `CheckpointError` for impossible ones."""

    mels: int
    """Mel bins of the input: 80, or 128 from large-v3 on."""
    vocab_size: int
    """51864 English-only, 51865 multilingual, 51866 from large-v3 on."""
    width: int
    encoder_heads: int
    encoder_layers: int
    decoder_heads: int
    decoder_layers: int
    max_source_positions: int = WINDOW_POSITIONS
    """Encoder positions per window."""
    max_target_positions: int = MAX_TARGET_POSITIONS
    """Decoder positions."""

    def __post_init__(self) -> None:
        problems = [
            f"{name} must be at least 1, got {getattr(self, name)}"
            for name in self.__dataclass_fields__
            if getattr(self, name) < 1
        ]
        problems += [
            f"width {self.width} is not a multiple of {name} {heads}"
            for name, heads in (("encoder_heads", self.encoder_heads), ("decoder_heads", self.decoder_heads))
            if heads > 0 and self.width % heads
        ]
        if problems:
            raise CheckpointError("invalid sizes of a Whisper network: " + "; ".join(problems))

    @property
    def multilingual(self) -> bool:
        return self.vocab_size >= 51865
