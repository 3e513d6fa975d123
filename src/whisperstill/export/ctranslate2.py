"""CTranslate2 directories, which faster-whisper opens: weights, vocabulary, settings, tokenizer, features.

The weights are laid out by CTranslate2's own specification, under the names that our reader knows them by
(`model.checkpoints.ctranslate2`), and its code rounds and stores them; transformers is not needed.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from whisperstill.errors import CheckpointError, MissingExtraError, SettingsError
from whisperstill.files import whole
from whisperstill.model.checkpoints.checkpoint import Checkpoint
from whisperstill.model.checkpoints.ctranslate2 import NAMING
from whisperstill.model.checkpoints.huggingface_writer import preprocessor_config
from whisperstill.model.checkpoints.tokens import check_vocabulary, special_tokens, with_timestamps

DTYPES = ("float32", "float16", "bfloat16", "int16", "int8", "int8_float32", "int8_float16", "int8_bfloat16")
"""Types that weights can be stored in; what is computed in is chosen when the model is opened."""
WEIGHTS = "model.bin"


def write_ctranslate2(checkpoint: Checkpoint, directory: Path, dtype: str = "float32") -> Path:
    """Write all files of a CTranslate2 directory, each atomically, the weights last. Gives `directory`.

    `float32` keeps float32 weights exactly. Raises `SettingsError` for a type that is not in `DTYPES`,
    `CheckpointError` for a tokenizer of another vocabulary, `MissingExtraError` without CTranslate2.
    """
    if dtype not in DTYPES:
        raise SettingsError(f"expected a type out of {', '.join(DTYPES)} for CTranslate2, got {dtype!r}")
    check_vocabulary(checkpoint.tokenizer_json, checkpoint.dims, checkpoint.source)
    spec = _specification(checkpoint, copied=dtype.startswith("int"))
    spec.validate()
    spec.optimize(quantization=dtype)

    directory.mkdir(parents=True, exist_ok=True)
    (directory / WEIGHTS).unlink(missing_ok=True)  # old weights must not stand beside new settings
    workplace = directory / f".ctranslate2.{os.getpid()}.part"
    workplace.mkdir()
    try:
        spec.save(str(workplace))
        (workplace / "tokenizer.json").write_bytes(with_timestamps(checkpoint.tokenizer_json))
        (workplace / "preprocessor_config.json").write_text(_json(preprocessor_config(checkpoint.dims.mels)), "utf-8")
        for file in sorted(workplace.iterdir(), key=lambda file: file.name == WEIGHTS):
            with whole(directory / file.name) as temporary:
                file.replace(temporary)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
    return directory


def _specification(checkpoint: Checkpoint, copied: bool) -> Any:
    """CTranslate2's description of the network, filled with the weights, the vocabulary and the settings.

    The trap: CTranslate2 scales what it rounds to integers in place, so it must be given copies then.
    """
    try:
        from ctranslate2.specs import WhisperSpec
        from ctranslate2.specs.model_spec import index_spec
    except ImportError as error:
        raise MissingExtraError("writing a CTranslate2 model", "ctranslate2") from error

    dims, generation = checkpoint.dims, checkpoint.generation
    spec = WhisperSpec(dims.encoder_layers, dims.encoder_heads, dims.decoder_layers, dims.decoder_heads)
    for name, tensor in checkpoint.state.items():
        [place] = NAMING.pieces(name)
        scope, _, attribute = str(place).rpartition("/")
        weights = tensor.detach().cpu()
        setattr(index_spec(spec, scope), attribute, weights.clone() if copied else weights)
    spec.decoder.projection.weight = spec.decoder.embeddings.weight  # one matrix: stored once
    spec.register_vocabulary(_vocabulary(checkpoint))
    spec.config.suppress_ids = list(generation.suppress)
    spec.config.suppress_ids_begin = list(generation.begin_suppress)
    spec.config.lang_ids = sorted(special_tokens(checkpoint.tokenizer_json).languages.values())
    spec.config.alignment_heads = [list(pair) for pair in generation.alignment_heads]
    return spec


def _vocabulary(checkpoint: Checkpoint) -> list[str]:
    """Every token as the tokenizer writes it, by id."""
    content = json.loads(with_timestamps(checkpoint.tokenizer_json))
    names = {number: token for token, number in content["model"]["vocab"].items()}
    names |= {token["id"]: token["content"] for token in content["added_tokens"]}
    missing = [number for number in range(checkpoint.dims.vocab) if number not in names]
    if missing:
        raise CheckpointError(f"tokenizer.json has no token {missing[0]}: put the one of this very model beside it")
    return [names[number] for number in range(checkpoint.dims.vocab)]


def _json(content: object) -> str:
    return json.dumps(content, indent=2) + "\n"
