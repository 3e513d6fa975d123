"""Reading CTranslate2's `model.bin`: files of CTranslate2's own converter, and damaged files."""

import json
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from whisperstill.errors import CheckpointError
from whisperstill.model.checkpoints import (
    Checkpoint,
    load_checkpoint,
    read_special_tokens,
    resolve_checkpoint,
    write_huggingface,
)
from whisperstill.model.checkpoints.ctranslate2 import ModelFile, read_ctranslate2
from whisperstill.model.checkpoints.tokens import default_generation_config, language_ids


def convert(checkpoint: Checkpoint, directory: Path, quantization: str | None = None) -> Path:
    """The checkpoint through CTranslate2's converter."""
    converters = pytest.importorskip("ctranslate2").converters
    pytest.importorskip("transformers")
    write_huggingface(checkpoint, directory / "hf")
    converter = converters.TransformersConverter(str(directory / "hf"), copy_files=["tokenizer.json"])
    converter.convert(str(directory / "ct2"), quantization=quantization)
    return directory / "ct2"


@pytest.mark.parametrize("which", ["checkpoint", "v3_checkpoint"])
def test_a_converted_checkpoint_is_equal(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    checkpoint: Checkpoint = request.getfixturevalue(which)
    read = load_checkpoint(convert(checkpoint, tmp_path))
    assert read.dims == checkpoint.dims
    assert read.generation_config == checkpoint.generation_config
    torch.testing.assert_close(read.state, checkpoint.state, rtol=0, atol=0)
    assert read.sha256 == checkpoint.sha256


@pytest.mark.parametrize(
    ("quantization", "tolerance"),
    [("float16", 2e-4), ("bfloat16", 2e-3), ("int16", 6e-4), ("int8", 2e-3), ("int8_float16", 2e-3)],
)
def test_quantised_weights_are_dequantised(
    checkpoint: Checkpoint, tmp_path: Path, quantization: str, tolerance: float
) -> None:
    read = load_checkpoint(convert(checkpoint, tmp_path, quantization))
    for name, tensor in checkpoint.state.items():
        assert read.state[name].dtype == torch.float32
        assert (read.state[name] - tensor).abs().max() <= tolerance, name
    assert read.sha256 != checkpoint.sha256


def test_aliases_are_resolved(checkpoint: Checkpoint, tmp_path: Path) -> None:
    state = {name: tensor.clone() for name, tensor in checkpoint.state.items()}
    for part in ("weight", "bias"):
        state[f"encoder.layers.1.mlp_norm.{part}"] = state[f"encoder.layers.0.mlp_norm.{part}"].clone()
    twin = Checkpoint(checkpoint.dims, state, checkpoint.generation_config, checkpoint.tokenizer_json, "twin")
    directory = convert(twin, tmp_path)
    assert b"encoder/layer_1/ffn/layer_norm/gamma" in (directory / "model.bin").read_bytes()[-2000:]
    assert load_checkpoint(directory).sha256 == twin.sha256


def split(directory: Path, targets: list[Path]) -> None:
    data = (directory / "model.bin").read_bytes()
    step = -(-len(data) // len(targets))
    for index, target in enumerate(targets):
        target.mkdir(exist_ok=True)
        (target / f"model.bin.part{index + 1}").write_bytes(data[index * step : (index + 1) * step])
    (directory / "model.bin").unlink()


def test_parts_in_several_directories_are_one_file(checkpoint: Checkpoint, tmp_path: Path) -> None:
    directory = convert(checkpoint, tmp_path)
    expected = load_checkpoint(directory).sha256
    far = tmp_path / "far"
    split(directory, [directory, directory, far])
    assert read_ctranslate2([directory, far], "parts").sha256 == expected
    shutil.copy(far / "model.bin.part3", directory)
    assert load_checkpoint(directory).sha256 == expected
    (directory / "model.bin.part2").unlink()
    with pytest.raises(CheckpointError, match=r"model.bin.part2 is missing"):
        load_checkpoint(directory)
    (directory / "model.bin.part3").unlink()
    with pytest.raises(CheckpointError, match=r"truncated or damaged: expected at least \d+ bytes, got \d+"):
        load_checkpoint(directory)


def test_truncation_is_detected_before_weights_are_read(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = convert(checkpoint, tmp_path)
    data = (directory / "model.bin").read_bytes()
    monkeypatch.setattr(ModelFile, "load", lambda *_: pytest.fail("a weight was read"))
    for size in (0, 3, 4, 20, 40, len(data) // 3, len(data) // 2, len(data) - 100, len(data) - 1):
        (directory / "model.bin").write_bytes(data[:size])
        with pytest.raises(CheckpointError, match=r"truncated|damaged"):
            load_checkpoint(directory)
    (directory / "model.bin").write_bytes(data + b"x")
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(directory)


def test_errors_of_other_files_name_the_reason(checkpoint: Checkpoint, tmp_path: Path) -> None:
    directory = convert(checkpoint, tmp_path)
    file = directory / "model.bin"
    data = file.read_bytes()
    file.write_bytes(struct.pack("<I", 7) + data[4:])
    with pytest.raises(CheckpointError, match="expected 4 to 6, got 7"):
        load_checkpoint(directory)
    file.write_bytes(data.replace(b"WhisperSpec", b"WaverlySpec", 1))
    with pytest.raises(CheckpointError, match="expected a WhisperSpec, got WaverlySpec"):
        load_checkpoint(directory)
    file.write_bytes(data.replace(b"encoder/layer_1/ffn/linear_1/bias\0", b"encoder/layer_1/ffn/linear_9/bias\0"))
    with pytest.raises(CheckpointError, match=r"encoder/layer_1/ffn/linear_1/bias is missing .*linear_9/bias is not"):
        load_checkpoint(directory)
    file.write_bytes(data)
    (directory / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config.json beside model.bin is damaged"):
        load_checkpoint(directory)
    (directory / "config.json").unlink()
    assert load_checkpoint(directory).generation_config == default_generation_config(
        checkpoint.tokenizer_json, checkpoint.dims
    )
    (directory / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"expected tokenizer.json beside model.bin"):
        load_checkpoint(directory)


def test_tokenizer_of_another_vocabulary_is_an_error(
    checkpoint: Checkpoint, v3_tokenizer_json: bytes, tmp_path: Path
) -> None:
    directory = convert(checkpoint, tmp_path)
    (directory / "tokenizer.json").write_bytes(v3_tokenizer_json)
    with pytest.raises(CheckpointError, match=r"expected a tokenizer of 51865 tokens .* got one of 51866"):
        load_checkpoint(directory)


def test_derived_suppressed_tokens_are_the_published_ones(tiny_en_dir: Path, base_installed: str) -> None:
    for teacher in (load_checkpoint(tiny_en_dir), load_checkpoint(base_installed)):
        derived = default_generation_config(teacher.tokenizer_json, teacher.dims)
        assert derived.suppress_tokens == teacher.generation_config.suppress_tokens
        assert derived.begin_suppress_tokens == teacher.generation_config.begin_suppress_tokens
    assert teacher.parameter_counts.total == 72_593_920  # of base, as published


def test_round_trip_of_published_weights(tiny_en_dir: Path, tmp_path: Path) -> None:
    teacher = load_checkpoint(tiny_en_dir)
    assert teacher.parameter_counts.total == 37_760_256  # as published
    directory = convert(teacher, tmp_path)
    again = load_checkpoint(directory)
    assert again.sha256 == teacher.sha256 == load_checkpoint(tmp_path / "hf").sha256
    assert again.generation_config == teacher.generation_config


def test_faster_whisper_reads_it(checkpoint: Checkpoint, base_installed: str, tmp_path: Path) -> None:
    faster_whisper = pytest.importorskip("faster_whisper")
    tokenizer_json = (resolve_checkpoint(base_installed).paths[0] / "tokenizer.json").read_bytes()
    directory = convert(replace(checkpoint, tokenizer_json=tokenizer_json), tmp_path)
    shutil.copy(tmp_path / "hf" / "preprocessor_config.json", directory)
    model = faster_whisper.WhisperModel(str(directory), device="cpu", compute_type="float32", cpu_threads=1)
    assert model.model.is_multilingual
    assert model.model.n_mels == 80
    languages = language_ids(read_special_tokens(tokenizer_json))
    assert json.loads((directory / "config.json").read_text())["lang_ids"] == sorted(languages.values())
