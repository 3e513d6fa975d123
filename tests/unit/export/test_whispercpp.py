"""whisper.cpp's model file: read by the parser below, by our reader of openai/whisper names, and by whisper.cpp."""

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from whisperstill.audio.mel import mel_filters, pad_or_trim
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.errors import CheckpointError, SettingsError
from whisperstill.export.whispercpp import write_whispercpp
from whisperstill.model.checkpoints import Checkpoint, load_checkpoint
from whisperstill.model.checkpoints.openai import read_openai
from whisperstill.text.tokenizer import Tokenizer

SIZES = ("n_vocab", "n_audio_ctx", "n_audio_state", "n_audio_head", "n_audio_layer")
SIZES += ("n_text_ctx", "n_text_state", "n_text_head", "n_text_layer", "n_mels", "ftype")
GREEDY = {
    "language": "en",
    "no_timestamps": True,
    "single_segment": True,
    "temperature_inc": 0.0,
    "n_max_text_ctx": 0,
    "suppress_nst": True,
}


class Parsed:
    """The file as parsed by whisper.cpp's loader."""

    def __init__(self, path: Path) -> None:
        self.data, self.offset = path.read_bytes(), 0
        [magic] = self.take("I")
        assert magic == int.from_bytes(b"ggml", "big")
        self.sizes = dict(zip(SIZES, self.take("11i"), strict=True))
        mels, bins = self.take("2i")
        self.bands = np.array(self.take(f"{mels * bins}f"), np.float32).reshape(mels, bins)
        self.tokens = [self.bytes(self.take("I")[0]) for _ in range(self.take("i")[0])]
        self.tensors: dict[str, torch.Tensor] = {}
        self.kinds: dict[str, int] = {}
        while self.offset < len(self.data):
            rank, length, kind = self.take("3i")
            shape = self.take(f"{rank}i")[::-1]
            name = self.bytes(length).decode()
            content = self.bytes(int(np.prod(shape)) * (4, 2)[kind])
            values = np.frombuffer(content, ("<f4", "<f2")[kind]).reshape(shape)
            self.tensors[name], self.kinds[name] = torch.from_numpy(values.astype(np.float32)), kind

    def take(self, kinds: str) -> tuple[Any, ...]:
        size = struct.calcsize(f"<{kinds}")
        return struct.unpack(f"<{kinds}", self.bytes(size))

    def bytes(self, count: int) -> bytes:
        assert self.offset + count <= len(self.data), "the file ends too early"
        self.offset += count
        return self.data[self.offset - count : self.offset]


def as_openai(parsed: Parsed, tokenizer_json: bytes, directory: Path) -> Checkpoint:
    """The tensors read by our reader of openai/whisper files, which checks every name and shape."""
    columns = {name: t for name, t in parsed.tensors.items() if ".conv" in name and name.endswith(".bias")}
    assert len(columns) == 2
    assert [tensor for tensor in columns.values() if tensor.shape[1] != 1] == []
    state = {name: tensor[:, 0] if name in columns else tensor for name, tensor in parsed.tensors.items()}
    directory.mkdir()
    (directory / "tokenizer.json").write_bytes(tokenizer_json)
    torch.save({"dims": parsed.sizes, "model_state_dict": state}, directory / "model.pt")
    return read_openai(directory / "model.pt", "parsed")


def test_float32_stores_exact_weights(checkpoint: Checkpoint, tmp_path: Path) -> None:
    parsed = Parsed(write_whispercpp(checkpoint, tmp_path / "ggml.bin", "float32"))
    assert parsed.sizes["ftype"] == 0
    assert not any(parsed.kinds.values())
    again = as_openai(parsed, checkpoint.tokenizer_json, tmp_path / "pt")
    assert again.dims == checkpoint.dims
    assert again.sha256 == checkpoint.sha256


def test_float16_rounds_matrices_only(checkpoint: Checkpoint, tmp_path: Path) -> None:
    exact = Parsed(write_whispercpp(checkpoint, tmp_path / "f32.bin", "float32"))
    parsed = Parsed(write_whispercpp(checkpoint, tmp_path / "f16.bin"))
    assert parsed.sizes == exact.sizes | {"ftype": 1}
    assert parsed.tensors.keys() == exact.tensors.keys()
    is_matrix = {name: tensor.ndim > 1 and name.endswith(".weight") for name, tensor in exact.tensors.items()}
    assert {name: bool(parsed.kinds[name]) for name in is_matrix} == is_matrix
    rounded = {name: tensor.half().float() if is_matrix[name] else tensor for name, tensor in exact.tensors.items()}
    torch.testing.assert_close(parsed.tensors, rounded, rtol=0, atol=0)
    assert sum(parsed.kinds.values()) == 2 * 6 + 3 * 10 + 3  # matrices of a layer, two convolutions, the embedding


def test_mel_filters_and_vocabulary(checkpoint: Checkpoint, tmp_path: Path) -> None:
    parsed = Parsed(write_whispercpp(checkpoint, tmp_path / "ggml.bin"))
    np.testing.assert_array_equal(parsed.bands, mel_filters(checkpoint.dims.mels).numpy())
    vocabulary = Tokenizer.from_bytes(checkpoint.tokenizer_json, checkpoint.dims.vocab_size).vocabulary
    assert len(parsed.tokens) == vocabulary.end_of_text
    assert set(parsed.tokens[:256]) == {bytes([byte]) for byte in range(256)}
    assert parsed.tokens[300] == b"filler300"


def test_a_real_vocabulary_is_stored_as_bytes(base_installed: str, tmp_path: Path) -> None:
    teacher = load_checkpoint(base_installed)
    parsed = Parsed(write_whispercpp(teacher, tmp_path / "ggml.bin", "float16"))
    tokenizer = Tokenizer.from_bytes(teacher.tokenizer_json, teacher.dims.vocab_size)
    text = " Grüße aus 東京, naïve “quotes” 🎵"
    assert b"".join(parsed.tokens[token] for token in tokenizer.encode(text)).decode() == text
    assert parsed.tokens[50256] == b""
    assert len(parsed.tokens) == 50257


def test_invalid_settings_are_errors(multilingual: Checkpoint, tmp_path: Path) -> None:
    path = write_whispercpp(multilingual, tmp_path / "ggml.bin")
    before = path.read_bytes()
    with pytest.raises(SettingsError, match=r"expected dtype float32, float16 for whisper.cpp, got 'bfloat16'"):
        write_whispercpp(multilingual, path, "bfloat16")
    for value, message in ((1e7, "more than float16 can store: write it as float32"), (float("nan"), "not finite")):
        state = {**multilingual.state}
        state["decoder.layers.2.mlp.up.weight"] = state["decoder.layers.2.mlp.up.weight"] * value
        with pytest.raises(CheckpointError, match=rf"decoder\.blocks\.2\.mlp\.0\.weight holds values .*{message}"):
            write_whispercpp(replace(multilingual, state=state), path)
    with pytest.raises(CheckpointError, match="expected a tokenizer of 51866 tokens"):
        write_whispercpp(replace(multilingual, dims=replace(multilingual.dims, vocab_size=51866)), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_whispercpp_reads_it(checkpoint: Checkpoint, tmp_path: Path) -> None:
    library = pytest.importorskip("pywhispercpp.model")
    path = write_whispercpp(checkpoint, tmp_path / "ggml.bin")
    model = library.Model(str(path), redirect_whispercpp_logs_to=None, n_threads=1, print_progress=False)
    binding = library.pw
    assert binding.whisper_n_vocab(model._ctx) == checkpoint.dims.vocab_size
    assert bool(binding.whisper_is_multilingual(model._ctx)) == checkpoint.dims.multilingual
    assert binding.whisper_token_to_str(model._ctx, 300) in ("filler300", b"filler300")
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    model.transcribe(noise, max_tokens=4, **GREEDY)


TIE = 0.25
"""Largest difference of two logits at which whisper.cpp, rounding to float16, may choose the other token."""


class GreedyComparison:
    """Greedy tokens of whisper.cpp and of whisperstill, without timestamps."""

    def __init__(self, checkpoint: Checkpoint, path: Path) -> None:
        library = pytest.importorskip("pywhispercpp.model")
        self.binding = library.pw
        self.model = library.Model(str(path), redirect_whispercpp_logs_to=None, n_threads=1, print_progress=False)
        self.whisper_model = WhisperModel(checkpoint, dtype=torch.float32)

    def peer_tokens(self, clip: np.ndarray) -> list[int]:
        """Text tokens."""
        self.model.transcribe(clip, **GREEDY)
        context, ids = self.model._ctx, []
        for segment in range(self.binding.whisper_full_n_segments(context)):
            count = self.binding.whisper_full_n_tokens(context, segment)
            ids += [self.binding.whisper_full_get_token_id(context, segment, position) for position in range(count)]
        return [token for token in ids if self.whisper_model.vocabulary.is_text(token)]

    @torch.inference_mode()
    def margin(self, clip: np.ndarray) -> float:
        """Difference of our logits at the first token where whisper.cpp differs; 0 if it never differs."""
        whisper_model, decoder = self.whisper_model, self.whisper_model.network.decoder
        states = whisper_model.encode(torch.from_numpy(pad_or_trim(clip))[None])
        end = whisper_model.vocabulary.end_of_text
        own_tokens, peer_tokens = (
            [*whisper_model.decode(states, ["en"])[0].result.tokens, end],
            [*self.peer_tokens(clip), end],
        )
        assert len(own_tokens) > 5
        if own_tokens == peer_tokens:
            return 0.0
        step = next(
            index for index, (token, other) in enumerate(zip(own_tokens, peer_tokens, strict=False)) if token != other
        )
        tokens = torch.tensor([[*whisper_model.vocabulary.sot_sequence("en"), *own_tokens[:step]]])
        logits = decoder.logits(decoder(tokens, torch.zeros(1, dtype=torch.long), decoder.prefill(states))[0, -1:])[0]
        return float(logits[own_tokens[step]] - logits[peer_tokens[step]])


@pytest.mark.slow
def test_whispercpp_gives_our_tokens_except_at_ties(tiny_en_dir: Path, clips: list[np.ndarray], tmp_path: Path) -> None:
    teacher = load_checkpoint(tiny_en_dir)
    comparison = GreedyComparison(teacher, write_whispercpp(teacher, tmp_path / "ggml.bin"))
    margins = [comparison.margin(clip) for clip in clips]
    assert max(map(abs, margins)) < TIE
    assert margins.count(0.0) > len(clips) / 2


@pytest.mark.slow
def test_control_another_weight_is_not_a_tie(tiny_en_dir: Path, clips: list[np.ndarray], tmp_path: Path) -> None:
    teacher = load_checkpoint(tiny_en_dir)
    name = "decoder.layers.1.cross.query.bias"
    changed = replace(teacher, state={**teacher.state, name: teacher.state[name] + 2.0})
    comparison = GreedyComparison(teacher, write_whispercpp(changed, tmp_path / "ggml.bin"))
    assert comparison.margin(clips[0]) > TIE
