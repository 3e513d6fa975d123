"""Whisper checkpoints of three formats, read into one `Checkpoint`; written as Hugging Face directories."""

from whisperstill.model.checkpoints.checkpoint import Checkpoint
from whisperstill.model.checkpoints.delta import write_delta
from whisperstill.model.checkpoints.huggingface import unfinished
from whisperstill.model.checkpoints.huggingface_writer import holds, write_huggingface
from whisperstill.model.checkpoints.reading import load_checkpoint, read_checkpoint
from whisperstill.model.checkpoints.resolve import Location, resolve
from whisperstill.model.checkpoints.shapes import Parameters, count_parameters, expected_shapes
from whisperstill.model.checkpoints.tokens import SpecialTokens, special_tokens

__all__ = [
    "Checkpoint",
    "Location",
    "Parameters",
    "SpecialTokens",
    "count_parameters",
    "expected_shapes",
    "holds",
    "load_checkpoint",
    "read_checkpoint",
    "resolve",
    "special_tokens",
    "unfinished",
    "write_delta",
    "write_huggingface",
]
