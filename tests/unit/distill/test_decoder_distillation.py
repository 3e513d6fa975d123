"""Gradients of a step: the same for any cut into micro-batches, and every loss in its place."""

from collections.abc import Sequence
from dataclasses import astuple, replace

import pytest
import torch
from torch import Tensor

from whisperstill.decode.generate.logit_filter import LogitFilter
from whisperstill.distill.batch import TokenBatch
from whisperstill.distill.batch_sampler import MicroBatchSpec
from whisperstill.distill.data_loader import DataLoader
from whisperstill.distill.dataset import TrainingExample
from whisperstill.distill.decoder_distillation import DecoderDistillation
from whisperstill.distill.encoder_distillation import EncoderDistillation
from whisperstill.distill.encoder_states import StoredStates
from whisperstill.distill.process_group import ProcessGroup
from whisperstill.distill.settings import ExampleOptions, LossConfig, TargetKind
from whisperstill.distill.teacher_targets import StoredTargetReader, TeacherTargetSource
from whisperstill.distill.training_checkpoint import trainable_parameters
from whisperstill.label.store import LabelStore
from whisperstill.model.checkpoints import Checkpoint
from whisperstill.model.whisper import Whisper
from whisperstill.records.loss_sums import LossSums
from whisperstill.text.vocabulary import Vocabulary

ALL_LOSSES = LossConfig(hidden_loss_weight=0.5, layer_loss_weight=0.3, attention_loss_weight=0.2)


class StepRunner:
    """A student, its teacher, and batches of the first examples."""

    def __init__(self, student: Checkpoint, teacher: Checkpoint, loader: DataLoader, examples: list[TrainingExample]):
        self.student = Whisper.from_state(student.dims, student.state)
        self.student.requires_grad_(False)
        self.student.decoder.requires_grad_(True)
        network = Whisper.from_state(teacher.dims, teacher.state).requires_grad_(False)
        layers = tuple(student.metadata["layers"])
        self.teacher = TeacherTargetSource(network.decoder.embedding.weight, network, layers=layers)
        vocabulary = Vocabulary.from_size(student.dims.vocab_size)
        self.logit_filter = LogitFilter(vocabulary, student.generation_config, False, "cpu")
        self.loader, self.examples = loader, examples[:4]

    def batches(self, *sizes: int) -> list[TokenBatch]:
        starts = [sum(sizes[:index]) for index in range(len(sizes))]
        return [
            self.loader.load(self.examples[start : start + size], 0) for start, size in zip(starts, sizes, strict=True)
        ]

    def run(self, batches: Sequence[TokenBatch], config: LossConfig) -> tuple[LossSums, float, dict[str, Tensor]]:
        task = DecoderDistillation(
            self.loader, self.student, self.teacher, config, torch.float32, ProcessGroup(), self.logit_filter
        )
        self.student.zero_grad(set_to_none=True)
        sums, loss = task.accumulate_gradients(batches)
        weights = trainable_parameters(self.student)
        return sums, loss, {name: weight.grad for name, weight in weights.items() if weight.grad is not None}


@pytest.fixture
def runner(
    store: LabelStore,
    vocabulary: Vocabulary,
    examples: list[TrainingExample],
    student: Checkpoint,
    teacher: Checkpoint,
) -> StepRunner:
    reader = StoredTargetReader(store, "online", 2.0, needs_hidden=False)
    return StepRunner(student, teacher, DataLoader(vocabulary, ExampleOptions(), StoredStates(store), reader), examples)


def test_micro_batches_give_the_gradient_of_one_batch(runner: StepRunner) -> None:
    sums, loss, gradients = runner.run(runner.batches(4), ALL_LOSSES)
    for sizes in ((1, 3), (1, 1, 1, 1)):
        other_sums, other_loss, other_gradients = runner.run(runner.batches(*sizes), ALL_LOSSES)
        assert other_loss == pytest.approx(loss, rel=1e-5)
        assert astuple(other_sums) == pytest.approx(astuple(sums), rel=1e-4)
        assert other_gradients.keys() == gradients.keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(other_gradients[name], gradient, rtol=1e-3, atol=1e-6)


def test_loss_is_the_weighted_sum_of_the_means(runner: StepRunner) -> None:
    sums, loss, _ = runner.run(runner.batches(2, 2), ALL_LOSSES)
    means = sums.means()
    expected = means["cross_entropy"] + 0.8 * means["kl"] + 0.5 * means["hidden"]
    expected += 0.3 * means["layers"] + 0.2 * means["attention"]
    assert loss == pytest.approx(expected, rel=1e-5)
    assert min(means["kl"], means["hidden"], means["layers"], means["attention"]) > 0


@pytest.mark.parametrize("name", ["hidden", "layers", "attention"])
def test_losses_without_weight_are_not_computed(runner: StepRunner, name: str) -> None:
    weights = {"hidden": "hidden_loss_weight", "layers": "layer_loss_weight", "attention": "attention_loss_weight"}
    config = LossConfig(**{weights[name]: 1.0})  # type: ignore[arg-type]
    sums, _, _ = runner.run(runner.batches(2), config)
    assert {key for key in weights if getattr(sums, key) > 0} == {name}


def test_on_policy_batch_has_no_cross_entropy(runner: StepRunner) -> None:
    (batch,) = runner.batches(2)
    on_policy = replace(batch, stored=None)
    labeled, _, _ = runner.run([batch], LossConfig())
    sums, loss, _ = runner.run([on_policy], LossConfig())
    assert (sums.loss_tokens, sums.cross_entropy, sums.correct_tokens) == (0, 0, 0)
    assert sums.kl == pytest.approx(labeled.kl, rel=1e-5)
    assert loss == pytest.approx(0.8 * sums.means()["kl"], rel=1e-5)


@pytest.mark.parametrize(("kind", "relation"), [("hidden", "equal"), ("topk", "below")])
def test_stored_targets_against_online_targets(
    runner: StepRunner, store: LabelStore, vocabulary: Vocabulary, kind: TargetKind, relation: str
) -> None:
    online, _, _ = runner.run(runner.batches(4), LossConfig())
    reader = StoredTargetReader(store, kind, 2.0, needs_hidden=False)
    runner.loader = DataLoader(vocabulary, ExampleOptions(), StoredStates(store), reader)
    runner.teacher = TeacherTargetSource(runner.teacher.embedding, None)
    stored, _, _ = runner.run(runner.batches(4), LossConfig())
    assert stored.kl == pytest.approx(online.kl, rel=1e-4) if relation == "equal" else 0 < stored.kl < online.kl
    assert stored.cross_entropy == pytest.approx(online.cross_entropy, rel=1e-5)


def test_encoder_step_does_not_depend_on_the_micro_batches(
    store: LabelStore, examples: list[TrainingExample], teacher: Checkpoint
) -> None:
    network = Whisper.from_state(teacher.dims, teacher.state)
    torch.nn.init.ones_(network.encoder.norm.bias)
    task = EncoderDistillation(network, store, torch.float32, ProcessGroup())
    results = []
    for groups in ([examples[:3]], [examples[:1], examples[1:3]]):
        network.zero_grad(set_to_none=True)
        batches = [task.read(MicroBatchSpec(0, group, on_policy=False)) for group in groups]
        assert sum(batch.windows_encoded for batch in batches) == 3
        sums, loss = task.accumulate_gradients(batches)
        assert loss == pytest.approx(sums.means()["hidden"], rel=1e-5) and loss > 0.1
        gradient = network.encoder.norm.weight.grad
        assert gradient is not None
        results.append((loss, gradient.clone()))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-4, atol=1e-6)
