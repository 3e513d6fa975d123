"""Writes CTranslate2 directories, which faster-whisper reads: weights, vocabulary, config, tokenizer, features.

CTranslate2's own model specification lays out, quantises and stores the weights, under the names in
`model.checkpoints.assemble`; transformers is not needed.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from whisperstill.atomic_io import atomic_write_path
from whisperstill.errors import CheckpointError, MissingExtraError, SettingsError
from whisperstill.model.checkpoints.assemble import CTRANSLATE2, split_state_dict
from whisperstill.model.checkpoints.checkpoint import Checkpoint
from whisperstill.model.checkpoints.huggingface_writer import build_preprocessor_config
from whisperstill.model.checkpoints.tokens import (
    add_timestamp_tokens,
    check_vocab_size,
    language_ids,
    read_special_tokens,
)

DTYPES = ("float32", "float16", "bfloat16", "int16", "int8", "int8_float32", "int8_float16", "int8_bfloat16")
"""Dtypes of the stored weights; the dtype of computation is chosen when the model is loaded."""
WEIGHTS_FILE = "model.bin"


def write_ctranslate2(checkpoint: Checkpoint, directory: Path, dtype: str = "float32") -> Path:
    """Writes all files of a CTranslate2 directory, each atomically, the weights last; returns `directory`.

    `float32` stores float32 weights exactly. Raises `SettingsError` for a dtype not in `DTYPES`, `CheckpointError` for
    a tokenizer of another vocabulary, `MissingExtraError` without CTranslate2.
    """
    if dtype not in DTYPES:
        raise SettingsError(f"expected dtype {', '.join(DTYPES)} for CTranslate2, got {dtype!r}")
    check_vocab_size(checkpoint.tokenizer_json, checkpoint.dims, checkpoint.source)
    spec = _build_spec(checkpoint, copy_weights=dtype.startswith("int"))
    spec.validate()
    spec.optimize(quantization=dtype)

    directory.mkdir(parents=True, exist_ok=True)
    (directory / WEIGHTS_FILE).unlink(missing_ok=True)  # old weights must not lie beside new settings
    staging_directory = directory / f".ctranslate2.{os.getpid()}.part"
    staging_directory.mkdir()
    try:
        spec.save(str(staging_directory))
        (staging_directory / "tokenizer.json").write_bytes(add_timestamp_tokens(checkpoint.tokenizer_json))
        preprocessor = json.dumps(build_preprocessor_config(checkpoint.dims.mels), indent=2) + "\n"
        (staging_directory / "preprocessor_config.json").write_text(preprocessor, "utf-8")
        for file in sorted(staging_directory.iterdir(), key=lambda file: file.name == WEIGHTS_FILE):
            with atomic_write_path(directory / file.name) as temporary:
                file.replace(temporary)
    finally:
        shutil.rmtree(staging_directory, ignore_errors=True)
    return directory


def _build_spec(checkpoint: Checkpoint, copy_weights: bool) -> Any:
    """CTranslate2's model specification with weights, vocabulary and config.

    The trap: CTranslate2 scales weights in place when it quantises to integers, so it needs copies then.
    """
    try:
        from ctranslate2.specs import WhisperSpec
        from ctranslate2.specs.model_spec import index_spec
    except ImportError as error:
        raise MissingExtraError("writing a CTranslate2 model", "ctranslate2") from error

    dims, generation_config = checkpoint.dims, checkpoint.generation_config
    spec = WhisperSpec(dims.encoder_layers, dims.encoder_heads, dims.decoder_layers, dims.decoder_heads)
    for name, weights in split_state_dict(checkpoint.state, CTRANSLATE2).items():
        scope, _, attribute = name.rpartition("/")
        setattr(index_spec(spec, scope), attribute, weights.clone() if copy_weights else weights)
    spec.decoder.projection.weight = spec.decoder.embeddings.weight  # the tied embedding is stored once
    spec.register_vocabulary(_vocabulary_tokens(checkpoint))
    spec.config.suppress_ids = list(generation_config.suppress_tokens)
    spec.config.suppress_ids_begin = list(generation_config.begin_suppress_tokens)
    spec.config.lang_ids = sorted(language_ids(read_special_tokens(checkpoint.tokenizer_json)).values())
    spec.config.alignment_heads = [list(pair) for pair in generation_config.alignment_heads]
    return spec


def _vocabulary_tokens(checkpoint: Checkpoint) -> list[str]:
    content = json.loads(add_timestamp_tokens(checkpoint.tokenizer_json))
    token_by_id = {token_id: token for token, token_id in content["model"]["vocab"].items()}
    token_by_id |= {token["id"]: token["content"] for token in content["added_tokens"]}
    try:
        return [token_by_id[token_id] for token_id in range(checkpoint.dims.vocab_size)]
    except KeyError as error:
        raise CheckpointError(f"tokenizer.json has no token {error}: put the one of this model beside it") from None
