"""How long a recipe would take: arithmetic over the sizes of a network and two measured speeds.

The work is counted exactly (multiply and add are two operations); the speeds are measured in a second on the machine
that asks. What is left out (reading audio, Python, page faults) is covered by one factor for all, so an estimate is
good to a factor of two: enough to choose between a coffee and a night.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from whisperstill.units import WINDOW_FRAMES, WINDOW_POSITIONS

OVERHEAD_FACTOR = 1.6
"""Real stages against bare matrix products."""
TOKENS_PER_SECOND = 4.0
"""Tokens of read English per second of speech, with the end token and punctuation."""
TRAIN_TO_FORWARD_FLOPS = 3.0
"""A step against a forward pass: forward, and twice as much backward."""


@dataclass(frozen=True, slots=True)
class ModelSize:
    """The sizes of a network that decide its cost."""

    mels: int
    vocab_size: int
    width: int
    encoder_layers: int
    decoder_layers: int

    def with_decoder_layers(self, layers: int) -> "ModelSize":
        """The same with another depth of decoder."""
        return ModelSize(self.mels, self.vocab_size, self.width, self.encoder_layers, layers)


@dataclass(frozen=True, slots=True)
class MachineSpeed:
    """What a machine does, measured."""

    flops_per_second: float
    """Operations a second in large matrix products."""
    bytes_per_second: float
    """Bytes a second when a matrix is read once for few rows."""
    bytes_per_value: int = 4
    """Size of a value of the type that both were measured in: the one that the stages compute in."""


def encoder_flops(size: ModelSize) -> float:
    """Operations of one 30-second window through the encoder (base: 87.4e9)."""
    width, positions = size.width, WINDOW_POSITIONS
    convolutions = 6.0 * width * (WINDOW_FRAMES * size.mels + positions * width)
    layer = 24.0 * positions * width**2 + 4.0 * positions**2 * width
    return convolutions + size.encoder_layers * layer


def cross_attention_flops(size: ModelSize) -> float:
    """Operations of the keys and values that a decoder needs of one window (base: 9.4e9)."""
    return 4.0 * size.decoder_layers * WINDOW_POSITIONS * size.width**2


def decoder_token_flops(size: ModelSize) -> float:
    """Operations of one decoder token (base: 0.116e9)."""
    layer = 28.0 * size.width**2 + 4.0 * WINDOW_POSITIONS * size.width
    return size.decoder_layers * layer + 2.0 * size.vocab_size * size.width


def parameter_counts(size: ModelSize) -> tuple[float, float, float]:
    """Weights of encoder, decoder and token embedding, biases and norms left out (base: 20e6, 25e6, 27e6)."""
    width = size.width
    encoder = 12.0 * size.encoder_layers * width**2 + 3.0 * width * (size.mels + width)
    return encoder, 16.0 * size.decoder_layers * width**2, float(size.vocab_size * width)


def decode_step_reads(size: ModelSize, batch_size: int) -> float:
    """Values that one decoding step of `batch_size` windows reads: weights once, keys and values per row."""
    weights = 14.0 * size.decoder_layers * size.width**2 + size.vocab_size * size.width
    keys_and_values = 2.0 * size.decoder_layers * WINDOW_POSITIONS * size.width
    return weights + batch_size * keys_and_values


def decode_seconds(size: ModelSize, windows: float, tokens: float, speeds: MachineSpeed, batch_size: int = 16) -> float:
    """Seconds to hear `windows` windows and write `tokens` tokens each, `batch_size` windows at a time."""
    encode_seconds = windows * (encoder_flops(size) + cross_attention_flops(size)) / speeds.flops_per_second
    step_seconds = max(
        decode_step_reads(size, batch_size) * speeds.bytes_per_value / speeds.bytes_per_second,
        batch_size * decoder_token_flops(size) / speeds.flops_per_second,
    )
    return OVERHEAD_FACTOR * (encode_seconds + windows / batch_size * tokens * step_seconds)


def train_seconds(
    student: ModelSize, windows: float, tokens: float, epochs: float, speeds: MachineSpeed, online_encoder: bool
) -> float:
    """Seconds to train on `windows` windows for `epochs` epochs; the encoder is paid when no states were kept."""
    forward = cross_attention_flops(student) + tokens * decoder_token_flops(student)
    encoder_forward = encoder_flops(student) if online_encoder else 0.0
    return (
        OVERHEAD_FACTOR
        * epochs
        * windows
        * (TRAIN_TO_FORWARD_FLOPS * forward + encoder_forward)
        / speeds.flops_per_second
    )


def augmentation_seconds(teacher: ModelSize, windows: float, tokens: float, speeds: MachineSpeed) -> float:
    """Seconds for the teacher to hear `windows` changed windows and to read the `tokens` tokens of each."""
    forward = encoder_flops(teacher) + cross_attention_flops(teacher) + tokens * decoder_token_flops(teacher)
    return OVERHEAD_FACTOR * windows * forward / speeds.flops_per_second


KNOWN_SIZES = {
    "tiny": ModelSize(80, 51865, 384, 4, 4),
    "base": ModelSize(80, 51865, 512, 6, 6),
    "small": ModelSize(80, 51865, 768, 12, 12),
    "medium": ModelSize(80, 51865, 1024, 24, 24),
    "large": ModelSize(128, 51866, 1280, 32, 32),
    "large-v1": ModelSize(80, 51865, 1280, 32, 32),
    "large-v2": ModelSize(80, 51865, 1280, 32, 32),
    "large-v3": ModelSize(128, 51866, 1280, 32, 32),
    "large-v3-turbo": ModelSize(128, 51866, 1280, 32, 4),
    "turbo": ModelSize(128, 51866, 1280, 32, 4),
}
"""Sizes of the published networks; `.en` versions cost the same."""


def model_size(model: str) -> ModelSize | None:
    """Sizes of a model by its name (`tiny.en`, `openai/whisper-base`) or its `config.json`; None when unknown."""
    name = model.rsplit("/", 1)[-1].removeprefix("whisper-").removesuffix(".en")
    if name in KNOWN_SIZES:
        return KNOWN_SIZES[name]
    try:
        config = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))
        return ModelSize(
            int(config["num_mel_bins"]),
            int(config["vocab_size"]),
            int(config["d_model"]),
            int(config["encoder_layers"]),
            int(config["decoder_layers"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
