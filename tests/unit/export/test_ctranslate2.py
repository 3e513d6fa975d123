"""CTranslate2 directories: byte for byte those of CTranslate2's converter, and read by faster-whisper."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from whisperstill.audio.mel import pad_or_trim
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.errors import CheckpointError, SettingsError
from whisperstill.export.ctranslate2 import DTYPES, write_ctranslate2
from whisperstill.model.checkpoints import Checkpoint, load_checkpoint, read_special_tokens, write_huggingface

pytest.importorskip("ctranslate2")


def converted(checkpoint: Checkpoint, directory: Path, dtype: str) -> Path:
    """The checkpoint as written by CTranslate2's converter from a Hugging Face directory."""
    pytest.importorskip("transformers")
    from ctranslate2.converters import TransformersConverter

    write_huggingface(checkpoint, directory / "hf")
    TransformersConverter(str(directory / "hf")).convert(str(directory / "peer"), quantization=dtype)
    return directory / "peer"


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_checkpoint_is_not_modified(multilingual: Checkpoint, tmp_path: Path, dtype: str) -> None:
    before = {name: tensor.clone() for name, tensor in multilingual.state.items()}
    write_ctranslate2(multilingual, tmp_path, dtype)
    torch.testing.assert_close(multilingual.state, before, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_weights_equal_those_of_the_converter(multilingual: Checkpoint, tmp_path: Path, dtype: str) -> None:
    own, peer = write_ctranslate2(multilingual, tmp_path / "own", dtype), converted(multilingual, tmp_path, dtype)
    assert (own / "model.bin").read_bytes() == (peer / "model.bin").read_bytes()
    assert json.loads((own / "vocabulary.json").read_text()) == json.loads((peer / "vocabulary.json").read_text())
    settings, expected = (json.loads((folder / "config.json").read_text()) for folder in (own, peer))
    assert settings == expected
    assert settings["suppress_ids"] == [1, 2, 7]
    assert settings["alignment_heads"] == [[0, 1], [2, 0], [2, 1]]


def test_our_reader_returns_the_checkpoint(checkpoint: Checkpoint, tmp_path: Path) -> None:
    again = load_checkpoint(write_ctranslate2(checkpoint, tmp_path))
    assert again.dims == checkpoint.dims
    assert again.sha256 == checkpoint.sha256
    assert again.generation_config == checkpoint.generation_config
    assert read_special_tokens(again.tokenizer_json) == read_special_tokens(checkpoint.tokenizer_json)


def test_control_another_weight_gives_another_file(multilingual: Checkpoint, tmp_path: Path) -> None:
    state = {**multilingual.state, "decoder.norm.bias": multilingual.state["decoder.norm.bias"] + 0.1}
    original = write_ctranslate2(multilingual, tmp_path / "original") / "model.bin"
    changed = write_ctranslate2(replace(multilingual, state=state), tmp_path / "changed") / "model.bin"
    assert original.read_bytes() != changed.read_bytes()


def test_old_weights_are_never_stored_with_new_settings(
    multilingual: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ctranslate2(multilingual, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert before.keys() >= {
        "model.bin",
        "config.json",
        "vocabulary.json",
        "tokenizer.json",
        "preprocessor_config.json",
    }
    write_ctranslate2(multilingual, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("whisperstill.export.ctranslate2.atomic_write_path", killed)
    with pytest.raises(KeyboardInterrupt):
        write_ctranslate2(multilingual, tmp_path)
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        load_checkpoint(tmp_path)


def test_invalid_settings_are_errors(multilingual: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"expected dtype float32, float16, .* got 'fp8'"):
        write_ctranslate2(multilingual, tmp_path / "new", "fp8")
    with pytest.raises(CheckpointError, match="expected a tokenizer of 51866 tokens"):
        write_ctranslate2(replace(multilingual, dims=replace(multilingual.dims, vocab_size=51866)), tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_faster_whisper_gives_our_tokens(tiny_en_dir: Path, clips: list[np.ndarray], tmp_path: Path) -> None:
    """Clips are padded to windows here, since faster-whisper pads features instead of audio."""
    faster_whisper = pytest.importorskip("faster_whisper")
    teacher = load_checkpoint(tiny_en_dir)
    model = faster_whisper.WhisperModel(
        str(write_ctranslate2(teacher, tmp_path)), device="cpu", compute_type="float32", cpu_threads=1
    )
    windows = [pad_or_trim(clip) for clip in clips]
    own_model = WhisperModel(teacher, dtype=torch.float32)
    own = own_model.decode(own_model.encode(torch.from_numpy(np.stack(windows))), ["en"] * len(clips))
    peer = []
    for window in windows:
        segments, _ = model.transcribe(
            window, language="en", beam_size=1, temperature=0.0, without_timestamps=True, vad_filter=False
        )
        peer.append(tuple(token for segment in segments for token in segment.tokens))
    assert peer == [transcript.result.tokens for transcript in own]
