"""Batches of labelled windows: token sequences, encoder states, stored targets, on-policy windows."""

from dataclasses import replace

import pytest
import torch

from whisperstill.decode.generate.logit_filter import LogitFilter
from whisperstill.distill.batch import OnPolicyBatch, TokenBatch
from whisperstill.distill.batch_sampler import MicroBatchSpec
from whisperstill.distill.data_loader import DataLoader
from whisperstill.distill.dataset import TrainingExample
from whisperstill.distill.encoder_states import EncoderStateSource, OnlineStates, StoredStates
from whisperstill.distill.on_policy import MAX_EXTRA_TOKENS, generate_on_policy
from whisperstill.distill.settings import ExampleOptions, TargetKind
from whisperstill.distill.teacher_targets import StoredTargetReader
from whisperstill.label.store import LabelStore
from whisperstill.model.checkpoints import Checkpoint
from whisperstill.model.whisper import Whisper
from whisperstill.text.vocabulary import Vocabulary

NO_OPTIONS = ExampleOptions()


def make_loader(
    store: LabelStore,
    vocabulary: Vocabulary,
    kind: TargetKind = "topk",
    options: ExampleOptions = NO_OPTIONS,
    states: EncoderStateSource | None = None,
    needs_hidden: bool = False,
) -> DataLoader:
    return DataLoader(
        vocabulary, options, states or StoredStates(store), StoredTargetReader(store, kind, 2.0, needs_hidden)
    )


def test_batch_packs_sequences_and_masks_start_tokens(
    store: LabelStore, vocabulary: Vocabulary, examples: list[TrainingExample]
) -> None:
    batch = make_loader(store, vocabulary).load(examples[:3], 0)
    assert batch.examples == examples[:3]
    assert batch.decoder_tokens == sum(batch.lengths) == len(batch.decoder_ids) == len(batch.target_ids)
    assert batch.audio_seconds == pytest.approx(sum(example.label.window.duration for example in examples[:3]))
    assert batch.encoder_states.shape == (3, 1500, 32) and batch.windows_encoded == 0
    for example, ids, targets, mask in zip(
        examples,
        batch.decoder_ids.split(batch.lengths),
        batch.target_ids.split(batch.lengths),
        batch.loss_mask.split(batch.lengths),
        strict=False,
    ):
        start = vocabulary.sot_sequence(example.label.language)
        assert tuple(ids[: len(start)].tolist()) == start
        torch.testing.assert_close(ids[1:], targets[:-1], rtol=0, atol=0)
        assert mask.tolist() == [False] * (len(start) - 1) + [True] * (len(ids) - len(start) + 1)
    torch.testing.assert_close(batch.kl_mask, batch.loss_mask, rtol=0, atol=0)


def test_stored_targets_are_one_row_per_token_in_the_kl_loss(
    store: LabelStore, vocabulary: Vocabulary, examples: list[TrainingExample]
) -> None:
    for kind, needs_hidden in (("topk", False), ("topk", True), ("hidden", False), ("online", True)):
        batch = make_loader(store, vocabulary, kind, needs_hidden=needs_hidden).load(examples[:3], 0)  # type: ignore[arg-type]
        assert batch.stored is not None
        rows = int(batch.kl_mask.sum())
        topk, hidden = batch.stored.topk, batch.stored.hidden
        assert (topk is not None) == (kind == "topk") and (topk is None or topk.ids.shape == (rows, 8))
        has_hidden = kind == "hidden" or (kind == "topk" and needs_hidden)
        assert (hidden is not None) == has_hidden and (hidden is None or hidden.shape == (rows, 32))


def test_prompted_windows_have_online_targets_only(
    store: LabelStore, vocabulary: Vocabulary, examples: list[TrainingExample]
) -> None:
    prompted = [replace(example, previous_tokens=(11, 12)) for example in examples[:2]]
    options = ExampleOptions(condition_on_prev_probability=1.0)
    stored = make_loader(store, vocabulary, "topk", options).load(prompted, 0)
    assert stored.stored is not None and stored.stored.topk is None and not stored.kl_mask.any()
    online = make_loader(store, vocabulary, "online", options).load(prompted, 0)
    torch.testing.assert_close(online.kl_mask, online.loss_mask, rtol=0, atol=0)
    assert online.loss_mask.any()


def test_online_states_equal_stored_states_and_are_counted(
    store: LabelStore, vocabulary: Vocabulary, examples: list[TrainingExample], student: Checkpoint
) -> None:
    network = Whisper.from_state(student.dims, student.state)
    online = make_loader(store, vocabulary, states=OnlineStates(network))
    stored = make_loader(store, vocabulary)
    assert online.runs_encoder and not stored.runs_encoder
    batch = online.load(examples[:2], 0)
    assert batch.windows_encoded == 2
    torch.testing.assert_close(batch.encoder_states, stored.load(examples[:2], 0).encoder_states)


def test_masked_states_are_the_mean_of_the_window(
    store: LabelStore, vocabulary: Vocabulary, examples: list[TrainingExample]
) -> None:
    plain = make_loader(store, vocabulary).load(examples[:2], 0).encoder_states
    masked = make_loader(store, vocabulary, options=ExampleOptions(encoder_mask_prob=0.2)).load(examples[:2], 0)
    for original, states in zip(plain, masked.encoder_states, strict=True):
        changed = (original != states).any(-1)
        assert 0 < int(changed.sum()) < 0.3 * len(changed)
        torch.testing.assert_close(states[changed], original.mean(0).expand(int(changed.sum()), -1))


def test_on_policy_batch_holds_start_tokens_until_the_student_transcribes(
    store: LabelStore, vocabulary: Vocabulary, examples: list[TrainingExample], student: Checkpoint
) -> None:
    batch = make_loader(store, vocabulary).read(MicroBatchSpec(0, examples[:2], on_policy=True))
    assert isinstance(batch, OnPolicyBatch)
    assert batch.decoder_tokens == 2 * len(vocabulary.sot_sequence("en"))
    network = Whisper.from_state(student.dims, student.state).train()
    generated = generate_on_policy(network, batch, LogitFilter(vocabulary, student.generation_config, False, "cpu"))
    assert isinstance(generated, TokenBatch) and generated.stored is None and network.training
    torch.testing.assert_close(generated.kl_mask, generated.loss_mask, rtol=0, atol=0)
    for length, label_length, mask in zip(
        generated.lengths,
        (len(example.label.tokens) for example in batch.examples),
        generated.loss_mask.split(generated.lengths),
        strict=True,
    ):
        assert length <= 4 + label_length + MAX_EXTRA_TOKENS
        assert not mask[:3].any() and mask[3:].all()
