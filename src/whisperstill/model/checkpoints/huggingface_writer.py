"""Hugging Face directories, written so that transformers, CTranslate2's converter and this project read them alike.

Three things are easily left out, and each shows only later. Without task a multilingual model is never told
`<|transcribe|>` and loops. transformers takes the first timestamp to be the id behind the last special token, so the
list of special tokens must end with `<|notimestamps|>` and the timestamps be ordinary tokens. And
alignment heads that point to layers a student does not have fail when somebody asks for word timestamps.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from whisperstill.files import file_sha256, remove_left_over, whole, write_whole
from whisperstill.model.checkpoints.checkpoint import Checkpoint
from whisperstill.model.checkpoints.huggingface import MANIFEST, NAMING
from whisperstill.model.checkpoints.tokens import SpecialTokens, special_tokens, with_timestamps
from whisperstill.units import FFT_SAMPLES, HOP_SAMPLES, SAMPLE_RATE, WINDOW_FRAMES, WINDOW_SAMPLES, WINDOW_SECONDS

WEIGHTS = "model.safetensors"


def write_huggingface(checkpoint: Checkpoint, directory: Path) -> Path:
    """Write all files of a Hugging Face directory, each atomically, the manifest last. Gives `directory`.

    Tensors keep their type. `whisperstill.json` holds the hashes of the weights and where they come from. Where the
    directory holds a checkpoint of the same sizes, as while training, it can be read at every moment; else it is
    marked as unfinished until all files are there.
    """
    directory.mkdir(parents=True, exist_ok=True)
    contents = settings_files(checkpoint)
    remove_left_over(directory)
    if not all(_same(directory / name, contents[name]) for name in ("config.json", "tokenizer.json")):
        write_whole(directory / MANIFEST, _bytes({"format": 1, "unfinished": True}))
    state = to_huggingface(checkpoint.state)
    with whole(directory / WEIGHTS) as temporary:
        save_file(state, temporary, metadata={"format": "pt"})
    for name, content in contents.items():
        if not _same(directory / name, content):
            write_whole(directory / name, content)
    manifest = {
        "format": 1,
        "version": _version(),
        **identity(checkpoint),
        "encoder_sha256": checkpoint.encoder_sha256,
        "weights_file_sha256": file_sha256(directory / WEIGHTS),
    }
    write_whole(directory / MANIFEST, _bytes(manifest))
    return directory


def holds(directory: Path, checkpoint: Checkpoint) -> bool:
    """Whether `directory` was completely written from this very checkpoint and its weights are unharmed (hashed)."""
    try:
        manifest = json.loads((directory / MANIFEST).read_text("utf-8"))
        expected = json.loads(_bytes(identity(checkpoint)))
        if any(manifest[key] != value for key, value in expected.items()):
            return False
        return bool(manifest["weights_file_sha256"] == file_sha256(directory / WEIGHTS))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def identity(checkpoint: Checkpoint) -> dict[str, Any]:
    """What makes two checkpoints the same, as the manifest has it."""
    return {
        "sha256": checkpoint.sha256,
        "tokenizer_sha256": hashlib.sha256(with_timestamps(checkpoint.tokenizer_json)).hexdigest(),
        "generation": asdict(checkpoint.generation),
        "metadata": checkpoint.metadata,
    }


def settings_files(checkpoint: Checkpoint) -> dict[str, bytes]:
    """Name -> content of every file but weights and manifest."""
    tokens = special_tokens(checkpoint.tokenizer_json)
    tokenizer_json = with_timestamps(checkpoint.tokenizer_json)
    tokenizer = json.loads(tokenizer_json)
    added = tokenizer["added_tokens"]
    contents = {
        "config.json": config(checkpoint, tokens),
        "generation_config.json": generation_config(checkpoint, tokens),
        "preprocessor_config.json": preprocessor_config(checkpoint.dims.mels),
        "tokenizer.json": tokenizer_json,
        "tokenizer_config.json": _tokenizer_config(tokens, added, checkpoint.dims.tokens),
        "special_tokens_map.json": _special_tokens_map(tokens),
        "vocab.json": json.dumps(tokenizer["model"]["vocab"], ensure_ascii=False).encode(),
        "merges.txt": _merges(tokenizer["model"]["merges"]),
        "added_tokens.json": {token["content"]: token["id"] for token in added},
    }
    return {name: _bytes(content) for name, content in contents.items()}


def to_huggingface(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict under transformers' names, projections apart, without the key's bias and the tied output."""
    result = {}
    for name, tensor in state.items():
        pieces = NAMING.pieces(name)
        for piece, part in zip(pieces, tensor.detach().cpu().chunk(len(pieces)), strict=True):
            if piece is not None:
                result[f"model.{piece}"] = part.contiguous()
    return result


def config(checkpoint: Checkpoint, tokens: SpecialTokens) -> dict[str, Any]:
    """`config.json`."""
    dims = checkpoint.dims
    dtype = str(next(iter(checkpoint.state.values())).dtype).removeprefix("torch.")
    return {
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper",
        "is_encoder_decoder": True,
        "activation_function": "gelu",
        "d_model": dims.width,
        "vocab_size": dims.vocab,
        "num_mel_bins": dims.mels,
        "max_source_positions": dims.positions,
        "max_target_positions": dims.tokens,
        "encoder_layers": dims.encoder_layers,
        "encoder_attention_heads": dims.encoder_heads,
        "encoder_ffn_dim": 4 * dims.width,
        "decoder_layers": dims.decoder_layers,
        "decoder_attention_heads": dims.decoder_heads,
        "decoder_ffn_dim": 4 * dims.width,
        "num_hidden_layers": dims.encoder_layers,
        "scale_embedding": False,
        "tie_word_embeddings": True,
        "use_cache": True,
        "init_std": 0.02,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "encoder_layerdrop": 0.0,
        "decoder_layerdrop": 0.0,
        "median_filter_width": 7,
        "bos_token_id": tokens.end,
        "eos_token_id": tokens.end,
        "pad_token_id": tokens.end,
        "decoder_start_token_id": tokens.start,
        "torch_dtype": dtype,
    }


def generation_config(checkpoint: Checkpoint, tokens: SpecialTokens) -> dict[str, Any]:
    """`generation_config.json`, with language and task where the vocabulary is multilingual."""
    generation = checkpoint.generation
    values: dict[str, Any] = {
        "alignment_heads": [list(pair) for pair in generation.alignment_heads],
        "begin_suppress_tokens": list(generation.begin_suppress),
        "bos_token_id": tokens.end,
        "eos_token_id": tokens.end,
        "pad_token_id": tokens.end,
        "decoder_start_token_id": tokens.start,
        "is_multilingual": checkpoint.dims.multilingual,
        "max_initial_timestamp_index": 50,
        "max_length": checkpoint.dims.tokens,
        "no_timestamps_token_id": tokens.no_timestamps,
        "prev_sot_token_id": tokens.previous,
        "return_timestamps": False,
        "suppress_tokens": list(generation.suppress),
    }
    if checkpoint.dims.multilingual:
        values["lang_to_id"] = {f"<|{code}|>": number for code, number in tokens.languages.items()}
        values["task_to_id"] = tokens.tasks
        values["task"] = generation.task
        if generation.language:
            values["language"] = f"<|{generation.language}|>"
    return values


def preprocessor_config(mels: int) -> dict[str, Any]:
    """`preprocessor_config.json`: what waveforms become before the encoder reads them."""
    return {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "processor_class": "WhisperProcessor",
        "feature_size": mels,
        "sampling_rate": SAMPLE_RATE,
        "hop_length": HOP_SAMPLES,
        "n_fft": FFT_SAMPLES,
        "chunk_length": WINDOW_SECONDS,
        "n_samples": WINDOW_SAMPLES,
        "nb_max_frames": WINDOW_FRAMES,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": False,
    }


def _special_tokens_map(tokens: SpecialTokens) -> dict[str, Any]:
    end = "<|endoftext|>"
    others = [name for name, number in tokens.names.items() if number != tokens.end]  # <|notimestamps|> is the last
    named = dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), end)
    return {**named, "additional_special_tokens": others}


def _tokenizer_config(tokens: SpecialTokens, added: list[dict[str, Any]], most_tokens: int) -> dict[str, Any]:
    return {
        **_special_tokens_map(tokens),
        "added_tokens_decoder": {
            str(token["id"]): {key: value for key, value in token.items() if key != "id"} for token in added
        },
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "errors": "replace",
        "model_max_length": most_tokens,
        "processor_class": "WhisperProcessor",
        "tokenizer_class": "WhisperTokenizer",
    }


def _merges(merges: list[str] | list[list[str]]) -> bytes:
    lines = [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]
    return ("#version: 0.2\n" + "\n".join(lines) + "\n").encode()


def _bytes(content: object) -> bytes:
    if isinstance(content, bytes):
        return content
    return (json.dumps(content, ensure_ascii=False, indent=2) + "\n").encode()


def _same(path: Path, content: bytes) -> bool:
    return path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content


def _version() -> str:
    try:
        return version("whisperstill")
    except PackageNotFoundError:
        return "unknown"
