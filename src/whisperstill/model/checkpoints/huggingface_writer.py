"""Writes Hugging Face directories that transformers, CTranslate2's converter and this project read alike.

Three traps, each of which shows only later. Without a task, transformers gives a multilingual model no
`<|transcribe|>`, and it loops. transformers takes the id after the last special token as the first timestamp, so the
special tokens must end with `<|notimestamps|>` and timestamps must be ordinary tokens. Alignment heads of layers that
the student does not have make word timestamps fail.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from whisperstill._version import __version__
from whisperstill.atomic_io import atomic_write, atomic_write_path, file_sha256, remove_partial_files
from whisperstill.model.checkpoints.assemble import HUGGINGFACE, split_state_dict
from whisperstill.model.checkpoints.checkpoint import Checkpoint
from whisperstill.model.checkpoints.huggingface import FORMAT_VERSION, MANIFEST_FILE
from whisperstill.model.checkpoints.tokens import add_timestamp_tokens, language_ids, read_special_tokens
from whisperstill.records.json_value import JsonObject
from whisperstill.units import FFT_SAMPLES, HOP_SAMPLES, SAMPLE_RATE, WINDOW_FRAMES, WINDOW_SAMPLES, WINDOW_SECONDS

WEIGHTS_FILE = "model.safetensors"


def write_huggingface(checkpoint: Checkpoint, directory: Path) -> Path:
    """Writes all files of a Hugging Face directory, each atomically, the manifest last; returns `directory`.

    Tensors keep their dtype. `whisperstill.json` holds their hashes and origin. If the directory already holds a
    checkpoint of the same sizes, as while training, it stays readable throughout; else it is marked as unfinished until
    all files are written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    contents = config_files(checkpoint)
    remove_partial_files(directory)
    if not all(_has_content(directory / name, contents[name]) for name in ("config.json", "tokenizer.json")):
        atomic_write(directory / MANIFEST_FILE, to_bytes({"format": FORMAT_VERSION, "unfinished": True}))
    write_weights(checkpoint.state, directory / WEIGHTS_FILE)
    for name, content in contents.items():
        if not _has_content(directory / name, content):
            atomic_write(directory / name, content)
    manifest = {
        "format": FORMAT_VERSION,
        "version": __version__,
        **checkpoint_identity(checkpoint),
        "encoder_sha256": checkpoint.encoder_sha256,
        "weights_file_sha256": file_sha256(directory / WEIGHTS_FILE),
    }
    atomic_write(directory / MANIFEST_FILE, to_bytes(manifest))
    return directory


def write_weights(state: Mapping[str, Tensor], path: Path) -> None:
    """Writes a state dict under transformers' names as safetensors."""
    with atomic_write_path(path) as temporary:
        save_file(to_huggingface(state), temporary, metadata={"format": "pt"})


def contains_checkpoint(directory: Path, checkpoint: Checkpoint) -> bool:
    """Whether `directory` was completely written from this checkpoint and its weights file has the hash of then."""
    try:
        manifest = json.loads((directory / MANIFEST_FILE).read_text("utf-8"))
        expected = json.loads(to_bytes(checkpoint_identity(checkpoint)))
        if manifest["format"] != FORMAT_VERSION or any(manifest[key] != value for key, value in expected.items()):
            return False
        return bool(manifest["weights_file_sha256"] == file_sha256(directory / WEIGHTS_FILE))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def checkpoint_identity(checkpoint: Checkpoint) -> JsonObject:
    """What identifies a checkpoint in the manifest: hashes, generation config, metadata."""
    return {
        "sha256": checkpoint.sha256,
        "tokenizer_sha256": hashlib.sha256(add_timestamp_tokens(checkpoint.tokenizer_json)).hexdigest(),
        "generation_config": asdict(checkpoint.generation_config),
        "metadata": checkpoint.metadata,
    }


def config_files(checkpoint: Checkpoint) -> dict[str, bytes]:
    """Name -> content of every file except weights and manifest."""
    tokens = read_special_tokens(checkpoint.tokenizer_json)
    tokenizer_json = add_timestamp_tokens(checkpoint.tokenizer_json)
    tokenizer = json.loads(tokenizer_json)
    added_tokens = tokenizer["added_tokens"]
    contents: dict[str, bytes | JsonObject] = {
        "config.json": build_config(checkpoint, tokens),
        "generation_config.json": build_generation_config(checkpoint, tokens),
        "preprocessor_config.json": build_preprocessor_config(checkpoint.dims.mels),
        "tokenizer.json": tokenizer_json,
        "tokenizer_config.json": _tokenizer_config(tokens, added_tokens, checkpoint.dims.max_target_positions),
        "special_tokens_map.json": _special_tokens_map(tokens),
        "vocab.json": json.dumps(tokenizer["model"]["vocab"], ensure_ascii=False).encode(),
        "merges.txt": _merges_txt(tokenizer["model"]["merges"]),
        "added_tokens.json": {token["content"]: token["id"] for token in added_tokens},
    }
    return {name: to_bytes(content) for name, content in contents.items()}


def to_huggingface(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict under transformers' names: separate projections, no key bias, no tied output layer."""
    renamed = split_state_dict(state, HUGGINGFACE)
    return {f"model.{name}": tensor.contiguous() for name, tensor in renamed.items()}


def build_config(checkpoint: Checkpoint, tokens: Mapping[str, int]) -> JsonObject:
    """`config.json`."""
    dims = checkpoint.dims
    dtype = str(next(iter(checkpoint.state.values())).dtype).removeprefix("torch.")
    return {
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper",
        "is_encoder_decoder": True,
        "activation_function": "gelu",
        "d_model": dims.width,
        "vocab_size": dims.vocab_size,
        "num_mel_bins": dims.mels,
        "max_source_positions": dims.max_source_positions,
        "max_target_positions": dims.max_target_positions,
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
        **dict.fromkeys(("dropout", "attention_dropout", "activation_dropout"), 0.0),
        **dict.fromkeys(("encoder_layerdrop", "decoder_layerdrop"), 0.0),
        "median_filter_width": 7,
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), tokens["<|endoftext|>"]),
        "decoder_start_token_id": tokens["<|startoftranscript|>"],
        "torch_dtype": dtype,
    }


def build_generation_config(checkpoint: Checkpoint, tokens: Mapping[str, int]) -> JsonObject:
    """`generation_config.json`; multilingual models have language and task."""
    generation_config = checkpoint.generation_config
    values: JsonObject = {
        "alignment_heads": [list(pair) for pair in generation_config.alignment_heads],
        "begin_suppress_tokens": list(generation_config.begin_suppress_tokens),
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), tokens["<|endoftext|>"]),
        "decoder_start_token_id": tokens["<|startoftranscript|>"],
        "is_multilingual": checkpoint.dims.multilingual,
        "max_initial_timestamp_index": 50,
        "max_length": checkpoint.dims.max_target_positions,
        "no_timestamps_token_id": tokens["<|notimestamps|>"],
        "prev_sot_token_id": tokens["<|startofprev|>"],
        "return_timestamps": False,
        "suppress_tokens": list(generation_config.suppress_tokens),
    }
    if checkpoint.dims.multilingual:
        values["lang_to_id"] = {f"<|{code}|>": token_id for code, token_id in language_ids(tokens).items()}
        values["task_to_id"] = {task: tokens[f"<|{task}|>"] for task in ("transcribe", "translate")}
        values["task"] = generation_config.task
        if generation_config.language:
            values["language"] = f"<|{generation_config.language}|>"
    return values


def build_preprocessor_config(mels: int) -> JsonObject:
    """`preprocessor_config.json`: the log-mel settings."""
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


def _special_tokens_map(tokens: Mapping[str, int]) -> JsonObject:
    main_tokens = dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), "<|endoftext|>")
    additional_tokens = [token for token, token_id in tokens.items() if token_id != tokens["<|endoftext|>"]]
    return {**main_tokens, "additional_special_tokens": additional_tokens}  # ends with <|notimestamps|>


def _tokenizer_config(tokens: Mapping[str, int], added_tokens: list[JsonObject], max_length: int) -> JsonObject:
    return {
        **_special_tokens_map(tokens),
        "added_tokens_decoder": {
            str(token["id"]): {key: value for key, value in token.items() if key != "id"} for token in added_tokens
        },
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "errors": "replace",
        "model_max_length": max_length,
        "processor_class": "WhisperProcessor",
        "tokenizer_class": "WhisperTokenizer",
    }


def _merges_txt(merges: list[str] | list[list[str]]) -> bytes:
    lines = [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]
    return ("#version: 0.2\n" + "\n".join(lines) + "\n").encode()


def to_bytes(content: bytes | JsonObject) -> bytes:
    """Content of a file: bytes as they are, else indented JSON."""
    if isinstance(content, bytes):
        return content
    return (json.dumps(content, ensure_ascii=False, indent=2) + "\n").encode()


def _has_content(path: Path, content: bytes) -> bool:
    return path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content
