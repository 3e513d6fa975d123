"""How long a recipe would take: arithmetic over the sizes of a network and two measured speeds.

The work is counted exactly (multiply and add are two operations); the speeds are measured in a second on the machine
that asks. What is left out (reading audio, Python, page faults) is covered by one factor for all, so an estimate is
good to a factor of two: enough to choose between a coffee and a night.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from whisperstill.units import WINDOW_FRAMES, WINDOW_POSITIONS

OVERHEAD = 1.6
"""Real stages against bare matrix products."""
TOKENS_PER_SECOND = 4.0
"""Tokens of read English per second of speech, with the end token and punctuation."""
TRAINING_PASSES = 3.0
"""A step against a forward pass: forward, and twice as much backward."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of a network that decide its cost."""

    mels: int
    vocab: int
    width: int
    encoder_layers: int
    decoder_layers: int

    def with_decoder(self, layers: int) -> "Sizes":
        """The same with another depth of decoder."""
        return Sizes(self.mels, self.vocab, self.width, self.encoder_layers, layers)


@dataclass(frozen=True, slots=True)
class Speeds:
    """What a machine does, measured."""

    products: float
    """Operations a second in large matrix products."""
    memory: float
    """Bytes a second when a matrix is read once for few rows."""
    value_bytes: int = 4
    """Size of a value of the type that both were measured in: the one that the stages compute in."""


def encoder_operations(sizes: Sizes) -> float:
    """Operations of one 30-second window through the encoder (base: 87.4e9)."""
    width, positions = sizes.width, WINDOW_POSITIONS
    convolutions = 6.0 * width * (WINDOW_FRAMES * sizes.mels + positions * width)
    layer = 24.0 * positions * width**2 + 4.0 * positions**2 * width
    return convolutions + sizes.encoder_layers * layer


def cross_operations(sizes: Sizes) -> float:
    """Operations of the keys and values that a decoder needs of one window (base: 9.4e9)."""
    return 4.0 * sizes.decoder_layers * WINDOW_POSITIONS * sizes.width**2


def token_operations(sizes: Sizes) -> float:
    """Operations of one decoder token (base: 0.116e9)."""
    layer = 28.0 * sizes.width**2 + 4.0 * WINDOW_POSITIONS * sizes.width
    return sizes.decoder_layers * layer + 2.0 * sizes.vocab * sizes.width


def parameters(sizes: Sizes) -> tuple[float, float, float]:
    """Weights of encoder, decoder and token embedding, biases and norms left out (base: 20e6, 25e6, 27e6)."""
    width = sizes.width
    encoder = 12.0 * sizes.encoder_layers * width**2 + 3.0 * width * (sizes.mels + width)
    return encoder, 16.0 * sizes.decoder_layers * width**2, float(sizes.vocab * width)


def step_values(sizes: Sizes, rows: int) -> float:
    """Values that one decoding step of `rows` windows reads: weights once, keys and values per row."""
    weights = 14.0 * sizes.decoder_layers * sizes.width**2 + sizes.vocab * sizes.width
    keys_and_values = 2.0 * sizes.decoder_layers * WINDOW_POSITIONS * sizes.width
    return weights + rows * keys_and_values


def decode_seconds(sizes: Sizes, windows: float, tokens: float, speeds: Speeds, rows: int = 16) -> float:
    """Seconds to hear `windows` windows and write `tokens` tokens each, `rows` windows at a time."""
    hearing = windows * (encoder_operations(sizes) + cross_operations(sizes)) / speeds.products
    step = max(
        step_values(sizes, rows) * speeds.value_bytes / speeds.memory, rows * token_operations(sizes) / speeds.products
    )
    return OVERHEAD * (hearing + windows / rows * tokens * step)


def train_seconds(
    student: Sizes, windows: float, tokens: float, epochs: float, speeds: Speeds, encoder_each_time: bool
) -> float:
    """Seconds to train on `windows` windows for `epochs` epochs; the encoder is paid when no states were kept."""
    forward = cross_operations(student) + tokens * token_operations(student)
    hearing = encoder_operations(student) if encoder_each_time else 0.0
    return OVERHEAD * epochs * windows * (TRAINING_PASSES * forward + hearing) / speeds.products


def views_seconds(teacher: Sizes, views: float, tokens: float, speeds: Speeds) -> float:
    """Seconds for the teacher to hear `views` changed windows and to read the `tokens` tokens of each."""
    reading = encoder_operations(teacher) + cross_operations(teacher) + tokens * token_operations(teacher)
    return OVERHEAD * views * reading / speeds.products


KNOWN = {
    "tiny": Sizes(80, 51865, 384, 4, 4),
    "base": Sizes(80, 51865, 512, 6, 6),
    "small": Sizes(80, 51865, 768, 12, 12),
    "medium": Sizes(80, 51865, 1024, 24, 24),
    "large": Sizes(128, 51866, 1280, 32, 32),
    "large-v1": Sizes(80, 51865, 1280, 32, 32),
    "large-v2": Sizes(80, 51865, 1280, 32, 32),
    "large-v3": Sizes(128, 51866, 1280, 32, 32),
    "large-v3-turbo": Sizes(128, 51866, 1280, 32, 4),
    "turbo": Sizes(128, 51866, 1280, 32, 4),
}
"""Sizes of the published networks; `.en` versions cost the same."""


def sizes_of(model: str) -> Sizes | None:
    """Sizes of a model by its name (`tiny.en`, `openai/whisper-base`) or its `config.json`; None when unknown."""
    name = model.rsplit("/", 1)[-1].removeprefix("whisper-").removesuffix(".en")
    if name in KNOWN:
        return KNOWN[name]
    try:
        config = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))
        return Sizes(
            int(config["num_mel_bins"]),
            int(config["vocab_size"]),
            int(config["d_model"]),
            int(config["encoder_layers"]),
            int(config["decoder_layers"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
