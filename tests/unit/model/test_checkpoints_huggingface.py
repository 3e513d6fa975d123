"""Hugging Face directories: read by us and by transformers as written; damage is an error of one line."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from whisperstill.errors import CheckpointError
from whisperstill.model.checkpoints import (
    Checkpoint,
    contains_checkpoint,
    load_checkpoint,
    read_special_tokens,
    write_huggingface,
)
from whisperstill.model.checkpoints.huggingface_writer import to_huggingface
from whisperstill.model.checkpoints.tokens import vocabulary_size
from whisperstill.model.generation_config import default_alignment_heads
from whisperstill.text.vocabulary import Vocabulary


def test_round_trip_is_exact(checkpoint: Checkpoint, tmp_path: Path) -> None:
    written = replace(
        checkpoint,
        generation_config=replace(checkpoint.generation_config, language="de"),
        metadata={"teacher": "t", "layers": [0, 2]},
    )
    read = load_checkpoint(write_huggingface(written, tmp_path))
    torch.testing.assert_close(read.state, written.state, rtol=0, atol=0)
    assert (read.dims, read.generation_config, dict(read.metadata)) == (
        written.dims,
        written.generation_config,
        dict(written.metadata),
    )
    assert read.sha256 == written.sha256
    assert read.encoder_sha256 == written.encoder_sha256
    assert vocabulary_size(read.tokenizer_json) == 51865
    assert contains_checkpoint(tmp_path, written)


def test_rewriting_gives_the_same_files_and_removes_partial_ones(checkpoint: Checkpoint, tmp_path: Path) -> None:
    left_over = tmp_path / ".model.safetensors.1.part"
    left_over.write_bytes(b"of a killed process")
    write_huggingface(checkpoint, tmp_path)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert not left_over.exists()
    assert "whisperstill.json" in first
    write_huggingface(load_checkpoint(tmp_path), tmp_path)
    second = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert first == second


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_stored_dtype_is_kept_on_request(checkpoint: Checkpoint, tmp_path: Path, dtype: torch.dtype) -> None:
    half = replace(checkpoint, state={name: tensor.to(dtype) for name, tensor in checkpoint.state.items()})
    write_huggingface(half, tmp_path)
    assert {tensor.dtype for tensor in load_checkpoint(tmp_path, dtype=None).state.values()} == {dtype}
    assert {tensor.dtype for tensor in load_checkpoint(tmp_path).state.values()} == {torch.float32}


def test_hash_covers_every_tensor_except_the_key_bias(checkpoint: Checkpoint) -> None:
    def changed(name: str, row: int) -> Checkpoint:
        state = {key: tensor.clone() for key, tensor in checkpoint.state.items()}
        state[name][row] += 1
        return replace(checkpoint, state=state)

    width = checkpoint.dims.width
    assert changed("decoder.layers.1.cross.kv.bias", 0).sha256 == checkpoint.sha256
    assert changed("decoder.layers.1.attention.qkv.bias", width).sha256 == checkpoint.sha256
    for name, row in (("decoder.layers.1.cross.kv.bias", width), ("decoder.norm.bias", 3), ("encoder.positions", 1499)):
        other = changed(name, row)
        assert other.sha256 != checkpoint.sha256
        assert (other.encoder_sha256 != checkpoint.encoder_sha256) == name.startswith("encoder.")


@pytest.mark.parametrize("which", ["checkpoint", "v3_checkpoint"])
def test_transformers_loads_every_weight(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    checkpoint: Checkpoint = request.getfixturevalue(which)
    write_huggingface(checkpoint, tmp_path)
    model, loading = transformers.WhisperForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(loading.values()), loading
    peer = model.state_dict()
    expected = to_huggingface(checkpoint.state)
    torch.testing.assert_close({name: peer[name] for name in expected}, expected, rtol=0, atol=0)
    tokens = Vocabulary.from_size(checkpoint.dims.vocab_size)
    assert model.generation_config.suppress_tokens == list(checkpoint.generation_config.suppress_tokens)
    assert model.generation_config.alignment_heads == [
        list(pair) for pair in checkpoint.generation_config.alignment_heads
    ]
    features = torch.zeros(1, checkpoint.dims.mels, 3000)
    start = model._retrieve_init_tokens(features, 1, model.generation_config, model.config, 3000, {})[0].tolist()
    assert start[0] == tokens.start_of_transcript
    assert start[1] in tokens.languages.values()  # detected
    assert start[2:] == [tokens.transcribe, tokens.no_timestamps]


def test_transformers_uses_the_stored_language(checkpoint: Checkpoint, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    german = replace(checkpoint, generation_config=replace(checkpoint.generation_config, language="de"))
    write_huggingface(german, tmp_path)
    model = transformers.WhisperForConditionalGeneration.from_pretrained(tmp_path)
    features, tokens = torch.zeros(1, 80, 3000), Vocabulary.from_size(51865)
    start = model._retrieve_init_tokens(features, 1, model.generation_config, model.config, 3000, {})[0].tolist()
    assert start == [tokens.start_of_transcript, tokens.languages["de"], tokens.transcribe, tokens.no_timestamps]


def test_transformers_processor_finds_the_timestamps(checkpoint: Checkpoint, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    write_huggingface(checkpoint, tmp_path)
    tokenizer = transformers.WhisperProcessor.from_pretrained(tmp_path).tokenizer
    tokens = Vocabulary.from_size(checkpoint.dims.vocab_size)
    assert tokenizer.all_special_ids[-1] == tokens.no_timestamps
    assert tokenizer.timestamp_ids() == list(range(tokens.no_timestamps + 1, 51865))
    text = tokenizer("abc", add_special_tokens=False).input_ids
    begin = tokens.no_timestamps + 1
    decoded = tokenizer.decode([begin, *text, begin + 50], decode_with_timestamps=True)
    assert decoded == "<|0.00|>abc<|1.00|>"
    assert tokenizer.decode([begin, *text, begin + 50], skip_special_tokens=True) == "abc"


def transformers_copy(checkpoint: Checkpoint, directory: Path, **options: object) -> Path:
    """The checkpoint as transformers itself saves it."""
    transformers = pytest.importorskip("transformers")
    write_huggingface(checkpoint, directory / "own")
    model = transformers.WhisperForConditionalGeneration.from_pretrained(directory / "own")
    model.save_pretrained(directory / "peer", **options)
    (directory / "peer" / "tokenizer.json").write_bytes(checkpoint.tokenizer_json)
    return directory / "peer"


def test_reads_checkpoints_of_transformers(checkpoint: Checkpoint, tmp_path: Path) -> None:
    read = load_checkpoint(transformers_copy(checkpoint, tmp_path))
    torch.testing.assert_close(read.state, checkpoint.state, rtol=0, atol=0)
    assert read.generation_config == checkpoint.generation_config


def test_reads_shards_and_names_a_missing_one(checkpoint: Checkpoint, tmp_path: Path) -> None:
    directory = transformers_copy(checkpoint, tmp_path, max_shard_size="200KB")
    shards = sorted(directory.glob("model-*.safetensors"))
    assert len(shards) > 2
    assert not (directory / "model.safetensors").exists()
    torch.testing.assert_close(load_checkpoint(directory).state, checkpoint.state, rtol=0, atol=0)
    shards[1].unlink()
    with pytest.raises(CheckpointError, match=f"download the missing {shards[1].name}"):
        load_checkpoint(directory)


def test_reads_pytorch_bin_without_running_code(checkpoint: Checkpoint, tmp_path: Path) -> None:
    write_huggingface(checkpoint, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    state = to_huggingface(checkpoint.state)
    torch.save({**state, "proj_out.weight": state["model.decoder.embed_tokens.weight"]}, tmp_path / "pytorch_model.bin")
    torch.testing.assert_close(load_checkpoint(tmp_path).state, checkpoint.state, rtol=0, atol=0)
    torch.save({"harm": Path("/")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="not only weights"):
        load_checkpoint(tmp_path)


def test_builds_the_tokenizer_from_vocabulary_and_merges(tiny_en_dir: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    from whisperstill.model.checkpoints.tokens import build_tokenizer_json

    teacher = load_checkpoint(tiny_en_dir)
    write_huggingface(teacher, tmp_path)
    built = build_tokenizer_json(tmp_path)
    own, original = Tokenizer.from_str(built.decode()), Tokenizer.from_str(teacher.tokenizer_json.decode())
    for text in (" Hello, world! It's 12.5 %.", "Grüße", " 日本語 ♪♪", "\n  spaces  "):
        ids = original.encode(text, add_special_tokens=False).ids
        assert own.encode(text, add_special_tokens=False).ids == ids
        assert own.decode(ids) == original.decode(ids) == text
    assert read_special_tokens(built) == read_special_tokens(teacher.tokenizer_json)
    (tmp_path / "tokenizer.json").unlink()
    assert load_checkpoint(tmp_path).generation_config == teacher.generation_config


def test_missing_generation_config_is_derived(checkpoint: Checkpoint, tmp_path: Path) -> None:
    write_huggingface(checkpoint, tmp_path)
    (tmp_path / "generation_config.json").unlink()
    generation = load_checkpoint(tmp_path).generation_config
    assert generation.alignment_heads == default_alignment_heads(checkpoint.dims)
    assert read_special_tokens(checkpoint.tokenizer_json)["<|startoftranscript|>"] in generation.suppress_tokens


def edit_config(**values: object) -> Callable[[Path], None]:
    def edit(directory: Path) -> None:
        path = directory / "config.json"
        config = {**json.loads(path.read_text()), **values}
        path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))

    return edit


def cut(name: str, share: float) -> Callable[[Path], None]:
    def edit(directory: Path) -> None:
        data = (directory / name).read_bytes()
        (directory / name).write_bytes(data[: int(len(data) * share)])

    return edit


def remove(*names: str) -> Callable[[Path], None]:
    def edit(directory: Path) -> None:
        for name in names:
            (directory / name).unlink()

    return edit


BROKEN = {
    "truncated weights": (cut("model.safetensors", 0.6), "model.safetensors is truncated or damaged"),
    "empty weights": (cut("model.safetensors", 0.0), "model.safetensors is truncated or damaged"),
    "truncated config": (cut("config.json", 0.5), "config.json is damaged"),
    "truncated tokenizer": (cut("tokenizer.json", 0.5), "tokenizer.json is damaged"),
    "no config": (remove("config.json"), "expected a config.json"),
    "no tokenizer": (remove("tokenizer.json", "vocab.json"), "expected tokenizer.json, or vocab.json with merges.txt"),
    "no weights": (remove("model.safetensors"), "holds no checkpoint"),
    "not Whisper": (edit_config(model_type="bert"), "expected model_type whisper, got bert"),
    "no sizes": (edit_config(d_model=None, decoder_layers="3"), "expected whole numbers for d_model, decoder_layers"),
    "impossible sizes": (edit_config(encoder_attention_heads=5), "width 32 is not a multiple of encoder_heads 5"),
    "other inner width": (edit_config(decoder_ffn_dim=99), "expected decoder_ffn_dim 128 as in every Whisper, got 99"),
    "other width": (
        edit_config(num_mel_bins=128),
        r"encoder.conv1.weight has shape \[32, 80, 3\], expected \[32, 128, 3",
    ),
    "more layers": (edit_config(decoder_layers=4), r"decoder.layers.3.self_attn_layer_norm.weight is missing"),
    "fewer layers": (edit_config(decoder_layers=2), r"decoder.layers.2.encoder_attn.k_proj.weight is not expected"),
    "other vocabulary": (edit_config(vocab_size=51864), "expected a tokenizer of 51864 tokens .* got one of 51865"),
}


@pytest.mark.parametrize("which", BROKEN)
def test_damage_is_an_error_of_one_line(which: str, checkpoint: Checkpoint, tmp_path: Path) -> None:
    write_huggingface(checkpoint, tmp_path)
    load_checkpoint(tmp_path)  # control: valid before the damage
    damage, message = BROKEN[which]
    damage(tmp_path)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_unfinished_checkpoint_is_an_error(checkpoint: Checkpoint, tmp_path: Path) -> None:
    write_huggingface(checkpoint, tmp_path)
    (tmp_path / "whisperstill.json").write_text('{"format": 2, "unfinished": true}')
    assert not contains_checkpoint(tmp_path, checkpoint)
    with pytest.raises(CheckpointError, match="only partly written"):
        load_checkpoint(tmp_path)
    write_huggingface(checkpoint, tmp_path)
    assert contains_checkpoint(tmp_path, checkpoint)


def test_an_older_format_is_an_error(checkpoint: Checkpoint, tmp_path: Path) -> None:
    write_huggingface(checkpoint, tmp_path)
    manifest = json.loads((tmp_path / "whisperstill.json").read_text("utf-8"))
    (tmp_path / "whisperstill.json").write_text(json.dumps({**manifest, "format": 1}))
    assert not contains_checkpoint(tmp_path, checkpoint)
    with pytest.raises(CheckpointError, match=r"written before 0\.1\.0 \(format 1, expected 2\): make it again"):
        load_checkpoint(tmp_path)


def test_changed_weights_are_detected(checkpoint: Checkpoint, tmp_path: Path) -> None:
    write_huggingface(checkpoint, tmp_path)
    data = bytearray((tmp_path / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(data)
    assert not contains_checkpoint(tmp_path, checkpoint)
    assert load_checkpoint(tmp_path).sha256 != checkpoint.sha256
