"""The chunked loss against a slow twin that builds all logits and uses autograd."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from whisperstill.distill import distillation_loss as module
from whisperstill.distill.batch import HiddenTargets, TopKTargets
from whisperstill.distill.distillation_loss import LossTargets, TokenTotals, distillation_loss
from whisperstill.distill.settings import LossConfig

ROWS, WIDTH, VOCAB, K = 70, 16, 97, 8
ALL_ROWS = torch.arange(ROWS)


class Problem:
    """Random hidden states of student and teacher, targets and masks."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.hidden, self.embedding = torch.randn(ROWS, WIDTH), torch.randn(VOCAB, WIDTH)
        self.teacher_hidden = torch.randn(ROWS, WIDTH)
        self.target_ids = torch.randint(VOCAB, (ROWS,))
        self.ce_mask, self.kl_mask = torch.rand(ROWS) < 0.8, torch.rand(ROWS) < 0.7
        self.teacher_logits = self.teacher_hidden @ self.embedding.t()

    def targets(self, *, topk: bool, temperature: float = 2.0, rows: Tensor = ALL_ROWS) -> LossTargets:
        """Targets of some rows, from top-k or from hidden states."""
        taught = rows[self.kl_mask[rows]]
        teacher: TopKTargets | HiddenTargets = HiddenTargets(self.teacher_hidden[taught], self.embedding)
        if topk:
            logits = self.teacher_logits[taught]
            values, ids = logits.topk(K)
            teacher = TopKTargets(ids, values, (logits / temperature).logsumexp(-1))
        weights = torch.ones(len(rows))
        return LossTargets(self.target_ids[rows], self.ce_mask[rows], self.kl_mask[rows], teacher, weights)

    @property
    def totals(self) -> TokenTotals:
        """Tokens of all rows."""
        return TokenTotals(int(self.ce_mask.sum()), int(self.kl_mask.sum()))


@pytest.fixture
def problem() -> Problem:
    return Problem()


def kl(p: Tensor, q: Tensor) -> Tensor:
    return p * (p / q).log()


SLOW_DIVERGENCES = {
    "forward-kl": kl,
    "reverse-kl": lambda p, q: kl(q, p),
    "jsd": lambda p, q: (kl(p, (p + q) / 2) + kl(q, (p + q) / 2)) / 2,
    "tv": lambda p, q: (p - q).abs() / 2,
    "skewed-kl": lambda p, q: kl(p, 0.1 * p + 0.9 * q),
}
OTHER_DIVERGENCES = [LossConfig(0.7, 0.5, 2.0, name) for name in SLOW_DIVERGENCES if name != "forward-kl"]


def slow_loss(problem: Problem, hidden: Tensor, embedding: Tensor, config: LossConfig, topk: bool) -> Tensor:
    """All logits at once, gradients by autograd."""
    logits = hidden @ embedding.t()
    ce = F.cross_entropy(logits[problem.ce_mask], problem.target_ids[problem.ce_mask], reduction="sum")
    t = config.temperature
    log_q = (logits[problem.kl_mask] / t).log_softmax(-1)
    log_p = (problem.teacher_logits / t)[problem.kl_mask].log_softmax(-1)
    if topk:
        ids = log_p.topk(K).indices
        in_topk = torch.zeros_like(log_p, dtype=torch.bool).scatter_(1, ids, True)
        tail_p = log_p.masked_fill(in_topk, -math.inf).logsumexp(-1, keepdim=True)
        tail_q = log_q.masked_fill(in_topk, -math.inf).logsumexp(-1, keepdim=True)
        log_p = torch.cat((log_p.gather(1, ids), tail_p), -1)
        log_q = torch.cat((log_q.gather(1, ids), tail_q), -1)
    divergence = SLOW_DIVERGENCES[config.divergence](log_p.exp(), log_q.exp()).sum()
    return config.ce_weight * ce / problem.totals.ce + config.kl_weight * t * t * divergence / problem.totals.kl


@pytest.mark.parametrize("topk", [False, True])
@pytest.mark.parametrize(
    "config",
    [LossConfig(), LossConfig(1.0, 0.0, 1.0), LossConfig(0.0, 1.0), LossConfig(0.3, 0.2), *OTHER_DIVERGENCES],
    ids=lambda config: f"{config.divergence} kl {config.kl_weight} ce {config.ce_weight} T {config.temperature}",
)
@pytest.mark.parametrize("chunk_tokens", [1, 16, 1000])
def test_chunked_loss_and_gradients_equal_slow_twin(problem, config, topk, chunk_tokens, monkeypatch) -> None:
    monkeypatch.setattr(module, "CHUNK_TOKENS", chunk_tokens)
    hidden, embedding = problem.hidden.clone().requires_grad_(), problem.embedding.clone().requires_grad_()
    targets = problem.targets(topk=topk, temperature=config.temperature)
    loss, sums = distillation_loss(hidden, embedding, targets, config, problem.totals)
    loss.backward()
    slow_hidden, slow_embedding = problem.hidden.clone().requires_grad_(), problem.embedding.clone().requires_grad_()
    slow = slow_loss(problem, slow_hidden, slow_embedding, config, topk)
    slow.backward()
    torch.testing.assert_close(loss, slow, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(hidden.grad, slow_hidden.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(embedding.grad, slow_embedding.grad, rtol=1e-4, atol=1e-6)
    is_correct = (problem.hidden @ problem.embedding.t()).argmax(-1) == problem.target_ids
    assert int(sums[2]) == int((is_correct & problem.ce_mask).sum())


def test_another_temperature_gives_another_loss(problem) -> None:
    """Negative control."""
    targets, totals = problem.targets(topk=False), TokenTotals(10, 10)
    at_1, at_2 = (
        distillation_loss(problem.hidden, problem.embedding, targets, LossConfig(temperature=t), totals)[0]
        for t in (1.0, 2.0)
    )
    assert abs(float(at_1) - float(at_2)) > 1e-2


def test_topk_kl_is_a_lower_bound_with_the_documented_gap(problem) -> None:
    """Full KL - top-k KL = tail mass x KL of the renormalized tails, exactly."""
    config, totals = LossConfig(1.0, 0.0, 2.0), problem.totals
    full, bound = (
        distillation_loss(problem.hidden, problem.embedding, problem.targets(topk=topk), config, totals)[0]
        for topk in (False, True)
    )
    log_p = (problem.teacher_logits[problem.kl_mask].double() / 2).log_softmax(-1)
    log_q = ((problem.hidden @ problem.embedding.t())[problem.kl_mask].double() / 2).log_softmax(-1)
    in_topk = torch.zeros_like(log_p, dtype=torch.bool).scatter_(1, log_p.topk(K).indices, True)
    tail_p, tail_q = log_p.masked_fill(in_topk, -math.inf), log_q.masked_fill(in_topk, -math.inf)
    mass = tail_p.logsumexp(-1).exp()
    tail_kl = torch.where(in_topk, 0, kl_of_logs(tail_p.log_softmax(-1), tail_q.log_softmax(-1))).nansum(-1)
    gap = 4 * (mass * tail_kl).sum() / totals.kl
    assert float(gap) > 1e-3
    assert float(full) - float(bound) == pytest.approx(float(gap), rel=1e-4)


def kl_of_logs(log_p: Tensor, log_q: Tensor) -> Tensor:
    return log_p.exp() * (log_p - log_q)


@pytest.mark.parametrize("name", SLOW_DIVERGENCES)
@pytest.mark.parametrize("topk", [False, True])
def test_equal_distributions_have_divergence_zero(problem, name, topk) -> None:
    hidden = problem.teacher_hidden.clone().requires_grad_()
    config, totals = LossConfig(1.0, 0.0, 2.0, name), TokenTotals(1, 1)
    loss, _ = distillation_loss(hidden, problem.embedding, problem.targets(topk=topk), config, totals)
    (gradient,) = torch.autograd.grad(loss, hidden)
    assert abs(float(loss.detach())) < 1e-4
    assert name == "tv" or float(gradient.abs().max()) < 1e-4  # total variation has a kink there


def test_micro_batches_add_up_to_one_batch(problem) -> None:
    hidden = problem.hidden.clone().requires_grad_()
    loss, _ = distillation_loss(hidden, problem.embedding, problem.targets(topk=False), LossConfig(), problem.totals)
    loss.backward()
    parts_hidden, total = problem.hidden.clone().requires_grad_(), 0.0
    for rows in ALL_ROWS.split((13, 37, 20)):
        share, _ = distillation_loss(
            parts_hidden[rows], problem.embedding, problem.targets(topk=False, rows=rows), LossConfig(), problem.totals
        )
        share.backward()
        total += float(share.detach())
    assert total == pytest.approx(float(loss.detach()), rel=1e-5)
    torch.testing.assert_close(parts_hidden.grad, hidden.grad)


@pytest.mark.parametrize("topk", [False, True])
def test_weight_of_a_row_equals_repeating_it(problem, topk) -> None:
    """Weights 1, 2 and 0 against rows repeated once, twice and not at all."""
    counts = ALL_ROWS % 3

    def run(rows: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        hidden = problem.hidden.clone().requires_grad_()
        targets = problem.targets(topk=topk, rows=rows)
        if weights is not None:
            targets = replace(targets, token_weights=weights)
        loss, sums = distillation_loss(hidden[rows], problem.embedding, targets, LossConfig(), TokenTotals(7.5, 4.5))
        loss.backward()
        return loss.detach(), sums, hidden.grad

    repeated, weighted = run(ALL_ROWS.repeat_interleave(counts)), run(ALL_ROWS, counts.float())
    torch.testing.assert_close(weighted[0], repeated[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(weighted[1][:2], repeated[1][:2], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(weighted[2], repeated[2], rtol=1e-4, atol=1e-6)
    assert not torch.allclose(run(ALL_ROWS)[2], repeated[2], atol=1e-3)  # negative control


def test_loss_without_tokens_is_zero(problem) -> None:
    no_rows = torch.zeros(ROWS, dtype=torch.bool)
    hidden = problem.hidden.clone().requires_grad_()
    targets = LossTargets(problem.target_ids, no_rows, no_rows, None, torch.ones(ROWS))
    loss, sums = distillation_loss(hidden, problem.embedding, targets, LossConfig(), TokenTotals(0, 0))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert not hidden.grad.any()
    assert not sums.any()
