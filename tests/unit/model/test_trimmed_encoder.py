"""Windows heard no further than they hold sound: what is remembered of silence stands for it."""

import pytest
import torch
from small_models import make_checkpoint, make_tokenizer

from whisperstill.audio.mel import log_mel, pad_or_trim
from whisperstill.model import trimmed_encoder as true_length
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
def test_silence_is_silence(encoder: Encoder) -> None:
    mel = mel_of(torch.zeros(480_000))
    mel = mel - mel + 0.5 - true_length.DYNAMIC_RANGE  # as behind loud speech, whose level is one of the grid's
    expected = encoder(mel)
    heard = TrimmedEncoder(encoder)
    mel[0, 0, 0] = 0.5
    found = heard(mel, [0])
    assert torch.allclose(found[:, TAIL_POSITIONS:], expected[:, TAIL_POSITIONS:], atol=1e-5)
    assert heard.num_computed_positions == TAIL_POSITIONS


@torch.inference_mode()
def test_the_states_are_near_those_of_the_whole_window(encoder: Encoder) -> None:
    """And much nearer than without the remembered keys; the nearer, the more is computed."""
    mel = mel_of(sound(4.0))
    whole = encoder(mel)

    def distance(states: torch.Tensor) -> float:
        return float((states[:, :200] - whole[:, :200]).norm() / whole[:, :200].norm())

    near = distance(TrimmedEncoder(encoder)(mel, [200]))
    nearer = distance(TrimmedEncoder(encoder)(mel, [1200]))
    forgets = TrimmedEncoder(encoder)
    forgets(mel, [200])
    for silence in forgets._silence_cache.values():
        silence.layer_kv[:] = [(key - 5, value * 0) for key, value in silence.layer_kv]
    assert 0 < nearer < near < 0.15
    assert distance(forgets(mel, [200])) > 2 * near


@torch.inference_mode()
def test_a_full_window_is_heard_whole(encoder: Encoder) -> None:
    mel = mel_of(sound(29.5))
    heard = TrimmedEncoder(encoder)
    assert torch.equal(heard(mel, [1475]), encoder(mel))
    assert heard.num_computed_positions == 0


@torch.inference_mode()
def test_a_batch_is_its_windows(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    waveforms = [sound(2.0), sound(7.5, 1, 0.001), sound(30.0, 2), sound(1.0, 3, 0.5), sound(3.0, 4, 0.02)]
    lengths = [100, 375, 1500, 50, 150]
    monkeypatch.setattr(true_length, "MAX_CACHED_LEVELS", 1)
    heard = TrimmedEncoder(encoder)
    together = heard(mel_of(*waveforms), lengths)
    assert len(heard._silence_cache) == 1
    for row, (waveform, length) in enumerate(zip(waveforms, lengths, strict=True)):
        alone = TrimmedEncoder(encoder)(mel_of(waveform), [length])
        assert torch.allclose(together[row], alone[0], atol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-2)
