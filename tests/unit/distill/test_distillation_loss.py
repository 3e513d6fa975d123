"""The chunked objective against its slow twin: whole logits and autograd."""

import math

import pytest
import torch
import torch.nn.functional as F

from whisperstill.distill import distillation_loss as module
from whisperstill.distill.distillation_loss import LossConfig, distillation_loss
from whisperstill.records.batch import HiddenTargets, TopKTargets

ROWS, WIDTH, VOCAB, K = 70, 16, 97, 8


@pytest.fixture
def problem() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "hidden": torch.randn(ROWS, WIDTH),
        "embedding": torch.randn(VOCAB, WIDTH),
        "teacher": torch.randn(ROWS, WIDTH),
        "target": torch.randint(VOCAB, (ROWS,)),
        "scored": torch.rand(ROWS) < 0.8,
        "taught": torch.rand(ROWS) < 0.7,
    }


def top_targets(teacher_logits: torch.Tensor, taught: torch.Tensor, temperature: float) -> TopKTargets:
    rows = teacher_logits[taught]
    values, ids = rows.topk(K)
    return TopKTargets(ids, values, (rows / temperature).logsumexp(-1))


def kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    return p * (p / q).log()


SLOW = {
    "forward-kl": kl,
    "reverse-kl": lambda p, q: kl(q, p),
    "jsd": lambda p, q: (kl(p, (p + q) / 2) + kl(q, (p + q) / 2)) / 2,
    "tv": lambda p, q: (p - q).abs() / 2,
    "skewed-kl": lambda p, q: kl(p, 0.1 * p + 0.9 * q),
}
OTHERS = [LossConfig(0.7, 0.5, 2.0, name) for name in SLOW if name != "forward-kl"]


def whole(problem, hidden, embedding, weights: LossConfig, bucketed: bool) -> torch.Tensor:
    """The slow twin: all logits at once, gradients by autograd."""
    z = hidden @ embedding.t()
    scored, taught = problem["scored"], problem["taught"]
    ce = F.cross_entropy(z[scored], problem["target"][scored], reduction="sum")
    t = weights.temperature
    log_q = (z[taught] / t).log_softmax(-1)
    log_p = (problem["teacher"] @ problem["embedding"].t() / t)[taught].log_softmax(-1)
    if bucketed:
        ids = log_p.topk(K).indices
        inside = torch.zeros_like(log_p, dtype=torch.bool).scatter_(1, ids, True)
        tail_p = log_p.masked_fill(inside, -math.inf).logsumexp(-1, keepdim=True)
        tail_q = log_q.masked_fill(inside, -math.inf).logsumexp(-1, keepdim=True)
        log_p = torch.cat((log_p.gather(1, ids), tail_p), -1)
        log_q = torch.cat((log_q.gather(1, ids), tail_q), -1)
    kl = SLOW[weights.divergence](log_p.exp(), log_q.exp()).sum()
    return weights.ce_weight * ce / scored.sum() + weights.kl_weight * t * t * kl / taught.sum()


@pytest.mark.parametrize("bucketed", [False, True])
@pytest.mark.parametrize(
    "weights", [LossConfig(), LossConfig(1.0, 0.0, 1.0), LossConfig(0.0, 1.0, 2.0), LossConfig(0.3, 0.2, 2.0), *OTHERS]
)
@pytest.mark.parametrize("chunk", [1, 16, 1000])
def test_chunked_equals_whole(problem, weights, bucketed, chunk, monkeypatch) -> None:
    monkeypatch.setattr(module, "CHUNK_TOKENS", chunk)
    hidden = problem["hidden"].clone().requires_grad_()
    embedding = problem["embedding"].clone().requires_grad_()
    logits = problem["teacher"] @ problem["embedding"].t()
    targets = (
        top_targets(logits, problem["taught"], weights.temperature)
        if bucketed
        else HiddenTargets(problem["teacher"][problem["taught"]], problem["embedding"])
    )
    loss, sums = distillation_loss(
        hidden, embedding, problem["target"], problem["scored"], problem["taught"], targets, weights,
        int(problem["scored"].sum()), int(problem["taught"].sum()),
    )  # fmt: skip
    loss.backward()
    slow_hidden = problem["hidden"].clone().requires_grad_()
    slow_embedding = problem["embedding"].clone().requires_grad_()
    slow = whole(problem, slow_hidden, slow_embedding, weights, bucketed)
    slow.backward()
    torch.testing.assert_close(loss, slow, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(hidden.grad, slow_hidden.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(embedding.grad, slow_embedding.grad, rtol=1e-4, atol=1e-6)
    right = (problem["hidden"] @ problem["embedding"].t()).argmax(-1) == problem["target"]
    assert int(sums[2]) == int((right & problem["scored"]).sum())


def test_the_wrong_temperature_is_noticed(problem) -> None:
    """Negative control: a KL at another temperature is another loss."""
    targets = HiddenTargets(problem["teacher"][problem["taught"]], problem["embedding"])
    arguments = (
        problem["hidden"],
        problem["embedding"],
        problem["target"],
        problem["scored"],
        problem["taught"],
        targets,
    )
    loss, _ = distillation_loss(*arguments, LossConfig(temperature=1.0), 10, 10)
    other, _ = distillation_loss(*arguments, LossConfig(temperature=2.0), 10, 10)
    assert abs(float(loss) - float(other)) > 1e-2


def test_top_k_is_a_lower_bound_with_the_stated_gap(problem) -> None:
    """Full KL - bucketed KL = tail mass x KL of the renormalised tails, exactly."""
    taught = problem["taught"]
    weights = LossConfig(1.0, 0.0, 2.0)
    logits = problem["teacher"] @ problem["embedding"].t()
    common = (problem["hidden"], problem["embedding"], problem["target"], problem["scored"], taught)
    count = int(taught.sum())
    full, _ = distillation_loss(
        *common, HiddenTargets(problem["teacher"][taught], problem["embedding"]), weights, 1, count
    )
    bound, _ = distillation_loss(*common, top_targets(logits, taught, 2.0), weights, 1, count)
    log_p = (logits[taught].double() / 2).log_softmax(-1)
    log_q = ((problem["hidden"] @ problem["embedding"].t())[taught].double() / 2).log_softmax(-1)
    ids = log_p.topk(K).indices
    inside = torch.zeros_like(log_p, dtype=torch.bool).scatter_(1, ids, True)
    tail_p = log_p.masked_fill(inside, -math.inf)
    tail_q = log_q.masked_fill(inside, -math.inf)
    mass = tail_p.logsumexp(-1).exp()
    conditional_p, conditional_q = tail_p.log_softmax(-1), tail_q.log_softmax(-1)
    kl = torch.where(inside, 0, conditional_p.exp() * (conditional_p - conditional_q)).nansum(-1)
    gap = 4 * (mass * kl).sum() / count
    assert float(gap) > 1e-3
    assert float(full) - float(bound) == pytest.approx(float(gap), rel=1e-4)


@pytest.mark.parametrize("name", SLOW)
def test_equal_distributions_are_at_distance_zero(problem, name) -> None:
    weights = LossConfig(1.0, 0.0, 2.0, name)
    taught = problem["taught"]
    hidden = problem["teacher"].clone().requires_grad_()
    logits = problem["teacher"] @ problem["embedding"].t()
    for targets in (
        HiddenTargets(problem["teacher"][taught], problem["embedding"]),
        top_targets(logits, taught, 2.0),
    ):
        loss, _ = distillation_loss(
            hidden, problem["embedding"], problem["target"], problem["scored"], taught, targets, weights, 1, 1
        )
        (gradient,) = torch.autograd.grad(loss, hidden)
        assert abs(float(loss.detach())) < 1e-4
        assert name == "tv" or float(gradient.abs().max()) < 1e-4  # which has a kink there


def test_micro_batches_add_up_to_one_batch(problem) -> None:
    weights = LossConfig()
    targets = HiddenTargets(problem["teacher"], problem["embedding"])
    scored = taught = torch.ones(ROWS, dtype=torch.bool)
    hidden = problem["hidden"].clone().requires_grad_()
    loss, _ = distillation_loss(
        hidden, problem["embedding"], problem["target"], scored, taught, targets, weights, ROWS, ROWS
    )
    loss.backward()
    pieces = problem["hidden"].clone().requires_grad_()
    total = 0.0
    for part in (slice(0, 13), slice(13, 50), slice(50, ROWS)):
        share, _ = distillation_loss(
            pieces[part], problem["embedding"], problem["target"][part], scored[part], taught[part],
            HiddenTargets(problem["teacher"][part], problem["embedding"]), weights, ROWS, ROWS,
        )  # fmt: skip
        share.backward()
        total += float(share)
    assert total == pytest.approx(float(loss), rel=1e-5)
    torch.testing.assert_close(pieces.grad, hidden.grad)


@pytest.mark.parametrize("bucketed", [False, True])
def test_a_row_that_counts_twice_is_there_twice(problem, bucketed) -> None:
    """Counts 1, 2 and 0 against rows once, twice and not at all."""
    counts = torch.arange(ROWS) % 3
    twice = torch.arange(ROWS).repeat_interleave(counts)
    logits = problem["teacher"] @ problem["embedding"].t()

    def loss(rows: torch.Tensor, **weighed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        hidden = problem["hidden"].clone().requires_grad_()
        taught = problem["taught"][rows]
        targets = (
            top_targets(logits[rows], taught, 2.0)
            if bucketed
            else HiddenTargets(problem["teacher"][rows][taught], problem["embedding"])
        )
        value, sums = distillation_loss(
            hidden[rows], problem["embedding"], problem["target"][rows], problem["scored"][rows], taught, targets,
            LossConfig(), 7.5, 4.5, **weighed,
        )  # fmt: skip
        value.backward()
        return value.detach(), sums, hidden.grad

    expected, found = loss(twice), loss(torch.arange(ROWS), token_weights=counts.float())
    torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[1][:2], expected[1][:2], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[2], expected[2], rtol=1e-4, atol=1e-6)
    assert not torch.allclose(loss(torch.arange(ROWS))[2], expected[2], atol=1e-3)


def test_nothing_scored_gives_zero(problem) -> None:
    none = torch.zeros(ROWS, dtype=torch.bool)
    hidden = problem["hidden"].clone().requires_grad_()
    loss, sums = distillation_loss(
        hidden, problem["embedding"], problem["target"], none, none, None, LossConfig(), 0, 0
    )
    loss.backward()
    assert float(loss) == 0.0
    assert not hidden.grad.any()
    assert not sums.any()
