"""TrimmedEncoder: encoder states close to those of the full window."""

import pytest
import torch
from small_models import make_checkpoint, make_tokenizer

from whisperstill.audio.mel import log_mel, pad_or_trim
from whisperstill.model import trimmed_encoder
from whisperstill.model.dims import Dims
from whisperstill.model.encoder import Encoder
from whisperstill.model.trimmed_encoder import TAIL_POSITIONS, TrimmedEncoder
from whisperstill.model.whisper import Whisper


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    dims = Dims(
        mels=80, vocab_size=51865, width=32, encoder_heads=2, encoder_layers=3, decoder_heads=2, decoder_layers=1
    )
    checkpoint = make_checkpoint(dims, make_tokenizer(50257, 99))
    state = {
        name: tensor * (4 if "attention" in name and "weight" in name else 1)
        for name, tensor in checkpoint.state.items()
    }
    return Whisper.from_state(dims, state).encoder


def sound(seconds: float, seed: int = 0, loudness: float = 0.1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return pad_or_trim(loudness * torch.randn(round(16_000 * seconds), generator=generator))


def mel_of(*waveforms: torch.Tensor) -> torch.Tensor:
    return log_mel(torch.stack(waveforms), 80)


@torch.inference_mode()
def test_silent_window_equals_full_encoder(encoder: Encoder) -> None:
    mel = mel_of(torch.zeros(480_000))
    mel = mel - mel + 0.5 - trimmed_encoder.DYNAMIC_RANGE  # silence after loud speech, at a multiple of LEVEL_STEP
    expected = encoder(mel)
    trimmed = TrimmedEncoder(encoder)
    mel[0, 0, 0] = 0.5
    states = trimmed(mel, [0])
    torch.testing.assert_close(states[:, TAIL_POSITIONS:], expected[:, TAIL_POSITIONS:], rtol=1e-5, atol=1e-5)
    assert trimmed.num_computed_positions == TAIL_POSITIONS


@torch.inference_mode()
def test_states_are_close_to_full_window(encoder: Encoder) -> None:
    """The distance shrinks with more computed positions, and grows with corrupted silence keys (control)."""
    mel = mel_of(sound(4.0))
    full = encoder(mel)

    def distance(states: torch.Tensor) -> float:
        return float((states[:, :200] - full[:, :200]).norm() / full[:, :200].norm())

    near = distance(TrimmedEncoder(encoder)(mel, [200]))
    nearer = distance(TrimmedEncoder(encoder)(mel, [1200]))
    corrupted = TrimmedEncoder(encoder)
    corrupted(mel, [200])
    for silence in corrupted._silence_cache.values():
        silence.layer_kv[:] = [(key - 5, value * 0) for key, value in silence.layer_kv]
    assert 0 < nearer < near < 0.15
    assert distance(corrupted(mel, [200])) > 2 * near


@torch.inference_mode()
def test_full_window_is_not_trimmed(encoder: Encoder) -> None:
    mel = mel_of(sound(29.5))
    trimmed = TrimmedEncoder(encoder)
    torch.testing.assert_close(trimmed(mel, [1475]), encoder(mel), rtol=0, atol=0)
    assert trimmed.num_computed_positions == 0


@torch.inference_mode()
def test_batch_equals_single_windows(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    waveforms = [sound(2.0), sound(7.5, 1, 0.001), sound(30.0, 2), sound(1.0, 3, 0.5), sound(3.0, 4, 0.02)]
    lengths = [100, 375, 1500, 50, 150]
    monkeypatch.setattr(trimmed_encoder, "MAX_CACHED_LEVELS", 1)
    trimmed = TrimmedEncoder(encoder)
    together = trimmed(mel_of(*waveforms), lengths)
    assert len(trimmed._silence_cache) == 1
    for row, (waveform, length) in enumerate(zip(waveforms, lengths, strict=True)):
        alone = TrimmedEncoder(encoder)(mel_of(waveform), [length])
        torch.testing.assert_close(together[row], alone[0], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-2)
