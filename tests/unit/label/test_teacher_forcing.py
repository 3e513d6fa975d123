"""Packed teacher forcing gives the statistics of teacher forcing one window at a time."""

import pytest
import torch
from small_models import make_checkpoint, make_tokenizer
from torch import Tensor

from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.label import teacher as teacher_module
from whisperstill.label.teacher import teacher_force
from whisperstill.model.dims import Dims

TEXTS = ("alpha bravo", "charlie", "", "delta echo foxtrot golf hotel india juliet " * 3)


@pytest.fixture(scope="module")
def teacher(small_dims: Dims) -> WhisperModel:
    return WhisperModel(make_checkpoint(small_dims, make_tokenizer(50257, 99)), dtype=torch.float32)


@pytest.fixture(scope="module")
def states(small_dims: Dims) -> Tensor:
    return torch.randn(len(TEXTS), 1500, small_dims.width, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def test_a_packed_batch_equals_single_windows(
    teacher: WhisperModel, states: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher_module, "LOGITS_CHUNK_TOKENS", 5)
    results = teacher_force(teacher, states, ["en"] * len(TEXTS), TEXTS, top_k=4, max_new_tokens=60)
    decoder, start = teacher.network.decoder, teacher.vocabulary.sot_sequence("en")
    assert [result.ended for result in results] == [True, True, True, False]
    for result, text, state in zip(results, TEXTS, states, strict=True):
        assert (
            teacher.tokenizer.decode(result.tokens).strip()
            == text.strip()[: len(teacher.tokenizer.decode(result.tokens)) - 1]
        )
        tokens = torch.tensor([[*start, *result.tokens]])
        hidden = decoder(tokens, torch.zeros(1, dtype=torch.long), decoder.prefill(state[None]))[0, len(start) - 1 :]
        targets = torch.tensor([*result.tokens, *([teacher.vocabulary.end_of_text] if result.ended else [])])
        logits = decoder.logits(hidden)[: len(targets)]
        stats = result.token_stats
        log = logits.log_softmax(-1)
        torch.testing.assert_close(stats.logprob, log.gather(1, targets[:, None])[:, 0], rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(stats.entropy, -(log.exp() * log).sum(-1), rtol=1e-5, atol=1e-3)
        torch.testing.assert_close(stats.lse2, (logits / 2).logsumexp(-1), rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(stats.top_ids, logits.topk(4).indices, rtol=0, atol=0)
        torch.testing.assert_close(stats.hidden, hidden[: len(targets)], rtol=1e-5, atol=1e-4)
    wrong = teacher_force(teacher, states.flip(0), ["en"] * len(TEXTS), TEXTS, top_k=4, max_new_tokens=60)
    assert not torch.allclose(wrong[1].token_stats.logprob, results[1].token_stats.logprob, atol=1e-3)
