"""Whisper checkpoints: Hugging Face, CTranslate2, OpenAI and delta files, read into one `Checkpoint`."""

from whisperstill.model.checkpoints.checkpoint import Checkpoint
from whisperstill.model.checkpoints.delta import write_delta
from whisperstill.model.checkpoints.huggingface import is_unfinished
from whisperstill.model.checkpoints.huggingface_writer import contains_checkpoint, write_huggingface
from whisperstill.model.checkpoints.loading import load_checkpoint, resolve_checkpoint
from whisperstill.model.checkpoints.shapes import count_parameters, expected_shapes
from whisperstill.model.checkpoints.tokens import read_special_tokens

__all__ = [
    "Checkpoint",
    "contains_checkpoint",
    "count_parameters",
    "expected_shapes",
    "is_unfinished",
    "load_checkpoint",
    "read_special_tokens",
    "resolve_checkpoint",
    "write_delta",
    "write_huggingface",
]
