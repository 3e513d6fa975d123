"""A teacher that reads sees what it would see one window and one token at a time."""

import pytest
import torch
from small_models import make_checkpoint, make_tokenizer
from torch import Tensor

from whisperstill.decode.recogniser import Recogniser
from whisperstill.label import reading
from whisperstill.label.reading import read
from whisperstill.model.dims import Dims

TEXTS = ("alpha bravo", "charlie", "", "delta echo foxtrot golf hotel india juliet " * 3)


@pytest.fixture(scope="module")
def teacher(small_dims: Dims) -> Recogniser:
    return Recogniser(make_checkpoint(small_dims, make_tokenizer(50257, 99)), dtype=torch.float32)


@pytest.fixture(scope="module")
def states(small_dims: Dims) -> Tensor:
    return torch.randn(len(TEXTS), 1500, small_dims.width, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def test_reading_is_teacher_forcing(teacher: Recogniser, states: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "ROWS", 5)
    found = read(teacher, states, ["en"] * len(TEXTS), TEXTS, top=4, max_new_tokens=60)
    decoder, start = teacher.network.decoder, teacher.vocabulary.start("en")
    assert [one.ended for one in found] == [True, True, True, False]
    for one, text, state in zip(found, TEXTS, states, strict=True):
        assert (
            teacher.tokenizer.decode(one.tokens).strip()
            == text.strip()[: len(teacher.tokenizer.decode(one.tokens)) - 1]
        )
        tokens = torch.tensor([[*start, *one.tokens]])
        hidden = decoder(tokens, torch.zeros(1, dtype=torch.long), decoder.forced(state[None]))[0, len(start) - 1 :]
        targets = torch.tensor([*one.tokens, *([teacher.vocabulary.end_of_text] if one.ended else [])])
        logits = decoder.logits(hidden)[: len(targets)]
        seen = one.observed
        log = logits.log_softmax(-1)
        assert torch.allclose(seen.logprob, log.gather(1, targets[:, None])[:, 0], atol=1e-4)
        assert torch.allclose(seen.entropy, -(log.exp() * log).sum(-1), atol=1e-3)
        assert torch.allclose(seen.lse2, (logits / 2).logsumexp(-1), atol=1e-4)
        assert torch.equal(seen.top_ids, logits.topk(4).indices)
        assert torch.allclose(seen.hidden, hidden[: len(targets)], atol=1e-4)
    wrong = read(teacher, states.flip(0), ["en"] * len(TEXTS), TEXTS, top=4, max_new_tokens=60)
    assert not torch.allclose(wrong[1].observed.logprob, found[1].observed.logprob, atol=1e-3)
