"""Whisper weights in memory, independent of the file format."""

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from whisperstill.model.checkpoints.shapes import ParameterCounts, count_parameters, key_bias_rows
from whisperstill.model.dims import Dims
from whisperstill.model.generation_config import GenerationConfig
from whisperstill.records.json_value import JsonObject


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Weights, tokenizer and generation config. Treat `state` as read-only: the hashes are computed once."""

    dims: Dims
    state: dict[str, Tensor] = field(repr=False)
    """Our name -> tensor; exactly the names and shapes of `expected_shapes(dims)`."""
    generation_config: GenerationConfig
    tokenizer_json: bytes = field(repr=False)
    """Contents of `tokenizer.json`."""
    source: str
    """Where it was read from, for messages: `tiny.en (installed package)` or a directory."""
    metadata: JsonObject = field(default_factory=dict)
    """Origin of a student as JSON (`teacher`, `teacher_sha256`, `layers`, ...); empty for a teacher."""

    @cached_property
    def encoder_sha256(self) -> str:
        """Hash of the encoder's weights: equal for a teacher and a student with the same encoder."""
        return self._hash(name for name in self.state if name.startswith("encoder."))

    @cached_property
    def embedding_sha256(self) -> str:
        """Hash of the token embedding, which is also the output layer."""
        return self._hash(["decoder.embedding.weight"])

    @cached_property
    def _decoder_sha256(self) -> str:
        return self._hash(name for name in self.state if not name.startswith("encoder."))

    @cached_property
    def sha256(self) -> str:
        """Hash of the weights, independent of the file format: over names, shapes and float32 values.

        It hashes the values in memory: loaded as bfloat16, a checkpoint has another hash than as float32.
        """
        with ThreadPoolExecutor(1) as executor:  # hashing releases the GIL
            decoder_hash = executor.submit(lambda: self._decoder_sha256)
            parts = f"{self.encoder_sha256} {decoder_hash.result()}"
        heads = f"{self.dims.encoder_heads} {self.dims.decoder_heads}"
        return hashlib.sha256(f"{heads} {parts}".encode()).hexdigest()

    @property
    def parameter_counts(self) -> ParameterCounts:
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
