"""Batches and the teacher's targets for them, from the store or online.

`topk`    top-k and log-sum-exps from the store: nothing of the teacher is computed.
`hidden`  the teacher's last hidden states from the store: its exact distribution for one matrix product.
`online`  the teacher's decoder reads the very batch that the student reads: exact for every view, prompts included.

Encoder states come from the store where it holds them, else from the encoder; it is the same for both, frozen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from whisperstill.audio.mel import log_mel
from whisperstill.corpus.loading import load_window_waveform
from whisperstill.distill.augmentation_cache import AugmentationCache, AugmentedWindow
from whisperstill.distill.dataset import (
    ExampleOptions,
    TokenizedExample,
    TrainingExample,
    masked_positions,
    tokenize_example,
)
from whisperstill.errors import SettingsError
from whisperstill.label.store import LabelStore
from whisperstill.model.decoder import LayerOutputs
from whisperstill.model.whisper import Whisper
from whisperstill.records.batch import HiddenTargets, TokenBatch, TopKTargets
from whisperstill.text.vocabulary import Vocabulary

TargetKind = Literal["topk", "hidden", "online"]


@dataclass(frozen=True, slots=True)
class TrainBatch:
    """A batch with what the store says about it, in memory."""

    batch: TokenBatch
    topk: TopKTargets | None
    """Top-k at the taught tokens, where the loss is taken from it."""
    hidden: Tensor | None
    """The teacher's last hidden states `[taught, width]`, where the loss needs them."""
    audio_seconds: float
    """Of audio."""
    on_policy: bool = False
    """Whether the student says these windows itself (see `on_policy`): the batch is at first what it begins with."""
    label_lengths: tuple[int, ...] = ()
    """Tokens of the teacher's in each of them."""


@dataclass(frozen=True, slots=True)
class TeacherTargets:
    """What the teacher says about a batch's taught tokens."""

    distribution: TopKTargets | HiddenTargets | None
    hidden: Tensor | None
    """Last hidden states `[taught, width]`."""
    layer_outputs: LayerOutputs | None = None
    """Its way through the layers, at all tokens, where it was asked for."""


class DataLoader:
    """Builds batches. Thread-safe for one reader thread."""

    def __init__(
        self,
        store: LabelStore,
        network: Whisper,
        vocabulary: Vocabulary,
        example_options: ExampleOptions,
        teacher_targets: TargetKind,
        temperature: float,
        states_from_store: bool,
        needs_hidden: bool,
        augmentation_cache: AugmentationCache | None = None,
    ) -> None:
        """`network` gives encoder states where the store has none; `needs_hidden` asks for the teacher's last hidden
        states beside its top-k; `augmentation_cache` gives windows anew. Raises `SettingsError` for what cannot be."""
        if teacher_targets == "topk" and augmentation_cache is not None:
            raise SettingsError("augmented windows have no stored top-k: use --teacher-targets hidden or online")
        if teacher_targets == "topk" and temperature not in (1.0, 2.0):
            raise SettingsError(
                f"temperature must be 1 or 2 with stored top-k (their log-sum-exps are stored), got {temperature:g}: "
                "use --teacher-targets hidden or online"
            )
        self.store = store
        self.network = network
        self.vocabulary = vocabulary
        self.example_options = example_options
        self.teacher_targets = teacher_targets
        self.temperature = temperature
        self.states_from_store = states_from_store
        self.needs_hidden = needs_hidden
        self.augmentation_cache = augmentation_cache
        self.windows_encoded = 0

    @property
    def runs_encoder(self) -> bool:
        """Whether the encoder may be asked for a batch."""
        return self.augmentation_cache is not None or not self.states_from_store

    def load(self, examples: Sequence[TrainingExample], epoch: int, on_policy: bool = False) -> TrainBatch:
        """A batch for these examples as this epoch sees them, on the CPU; `on_policy`: that the student says itself."""
        augmented_windows = [
            self.augmentation_cache.get(example, epoch) if self.augmentation_cache else None for example in examples
        ]
        windows = tuple(example.label.window.id for example in examples)
        states = self._mask_states(self._encoder_states(examples, augmented_windows), examples, epoch)
        seconds = sum(example.label.window.duration for example in examples)
        if on_policy:
            start_tokens = [self.vocabulary.sot_sequence(example.label.language) for example in examples]
            empty_mask = torch.zeros(sum(map(len, start_tokens)), dtype=torch.bool)
            lengths = tuple(map(len, start_tokens))
            ones = torch.ones(len(empty_mask))
            start_batch = TokenBatch(
                windows,
                states,
                lengths,
                _concatenate(start_tokens),
                _concatenate(start_tokens),
                empty_mask,
                empty_mask,
                ones,
            )
            label_lengths = tuple(len(example.label.tokens) for example in examples)
            return TrainBatch(start_batch, None, None, seconds, on_policy, label_lengths)
        tokenized_examples = [
            tokenize_example(example, self.vocabulary, self.example_options, epoch) for example in examples
        ]
        loss_mask = _concatenate([tokenized.loss_mask for tokenized in tokenized_examples])
        has_teacher_targets = [
            [self.teacher_targets == "online" or tokenized.matches_teacher_input] * len(tokenized.loss_mask)
            for tokenized in tokenized_examples
        ]
        batch = TokenBatch(
            window_ids=windows,
            encoder_states=states,
            lengths=tuple(len(tokenized.decoder_ids) for tokenized in tokenized_examples),
            decoder_ids=_concatenate([tokenized.decoder_ids for tokenized in tokenized_examples]),
            target_ids=_concatenate([tokenized.target_ids for tokenized in tokenized_examples]),
            loss_mask=loss_mask,
            kl_mask=loss_mask & _concatenate(has_teacher_targets),
            token_weights=_concatenate([tokenized.weights for tokenized in tokenized_examples]),
        )
        return TrainBatch(
            batch,
            self._topk_targets(examples, tokenized_examples),
            self._teacher_hidden(examples, tokenized_examples, augmented_windows),
            seconds,
        )

    def _encoder_states(
        self, examples: Sequence[TrainingExample], augmented_windows: Sequence[AugmentedWindow | None]
    ) -> Tensor:
        """Those of views, and the others from the store or the encoder."""
        self.windows_encoded += sum(
            augmented_window is not None and augmented_window.encoded for augmented_window in augmented_windows
        )
        original_states = iter(
            self._original_states(
                [
                    example
                    for example, augmented_window in zip(examples, augmented_windows, strict=True)
                    if augmented_window is None
                ]
            )
        )
        states = [
            next(original_states) if augmented_window is None else augmented_window.states
            for augmented_window in augmented_windows
        ]
        dtype = states[0].dtype if all(state.dtype == states[0].dtype for state in states) else torch.float32
        return torch.stack([state.to(dtype) for state in states])

    def _original_states(self, examples: Sequence[TrainingExample]) -> Sequence[Tensor]:
        if self.states_from_store or not examples:
            return [self.store.read_encoder_states(example.label) for example in examples]
        waveforms = [torch.from_numpy(load_window_waveform(example.label.window)) for example in examples]
        self.windows_encoded += len(waveforms)
        with torch.no_grad():
            mel = log_mel(torch.stack(waveforms).to(self.network.device), self.network.dims.mels)
            return [self.network.encoder(window_mel[None])[0].cpu() for window_mel in mel]

    def _mask_states(self, states: Tensor, examples: Sequence[TrainingExample], epoch: int) -> Tensor:
        """Hidden states are the window's mean."""
        if self.example_options.encoder_mask_prob:
            for state, example in zip(states, examples, strict=True):
                state[masked_positions(example, self.example_options, epoch)] = state.mean(0)
        return states

    def _topk_targets(
        self, examples: Sequence[TrainingExample], tokenized_examples: Sequence[TokenizedExample]
    ) -> TopKTargets | None:
        examples_with_steps = [
            (example, _teacher_steps(tokenized))
            for example, tokenized in zip(examples, tokenized_examples, strict=True)
            if tokenized.matches_teacher_input
        ]
        if self.teacher_targets != "topk" or not examples_with_steps:
            return None
        rows = [(self.store.read_topk(example.label), steps) for example, steps in examples_with_steps]
        return TopKTargets(
            ids=torch.cat([topk.ids[steps] for topk, steps in rows]),
            logits=torch.cat([topk.logits[steps] for topk, steps in rows]),
            lse=torch.cat([(topk.lse1 if self.temperature == 1.0 else topk.lse2)[steps] for topk, steps in rows]),
        )

    def _teacher_hidden(
        self,
        examples: Sequence[TrainingExample],
        tokenized_examples: Sequence[TokenizedExample],
        augmented_windows: Sequence[AugmentedWindow | None],
    ) -> Tensor | None:
        rows_with_steps = [
            (*row, _teacher_steps(row[1]))
            for row in zip(examples, tokenized_examples, augmented_windows, strict=True)
            if row[1].matches_teacher_input
        ]
        is_needed = self.teacher_targets == "hidden" or (self.teacher_targets == "topk" and self.needs_hidden)
        if not is_needed or not rows_with_steps:
            return None
        rows = [
            (self.store.read_hidden_states(example.label) if augmented_window is None else augmented_window.hidden)[
                steps
            ]
            for example, _, augmented_window, steps in rows_with_steps
        ]
        dtype = rows[0].dtype if all(row.dtype == rows[0].dtype for row in rows) else torch.float32
        return torch.cat([row.to(dtype) for row in rows])


def _concatenate(rows: Sequence[Sequence[int] | Sequence[bool] | Sequence[float]]) -> Tensor:
    """Sequences one behind the other."""
    return torch.tensor([value for row in rows for value in row])


def _teacher_steps(tokenized: TokenizedExample) -> Tensor:
    """The teacher's steps at a view's scored tokens."""
    return torch.tensor(
        [step for step, in_loss in zip(tokenized.teacher_steps, tokenized.loss_mask, strict=True) if in_loss],
        dtype=torch.long,
    )


class TeacherTargetSource:
    """The teacher's part in a step: its embedding, or its whole decoder."""

    def __init__(self, embedding: Tensor, network: Whisper | None, online: bool = True) -> None:
        """`online`: the `network` reads every batch, not only the student's own words."""
        self.embedding = embedding
        self.network = network
        self.online = online

    @torch.no_grad()
    def targets(self, train_batch: TrainBatch, layer_outputs: LayerOutputs | None = None) -> TeacherTargets:
        """Targets at the taught tokens of a batch; a teacher that reads it fills `layer_outputs`."""
        batch, device = train_batch.batch, self.embedding.device
        if self.network is not None and (self.online or train_batch.on_policy):
            decoder = self.network.decoder
            states = batch.encoder_states.to(device=device, dtype=self.network.dtype)
            hidden = decoder.forward_packed(batch.decoder_ids.to(device), batch.lengths, states, layer_outputs)
            hidden = hidden[batch.kl_mask.to(device)].float()
            return TeacherTargets(HiddenTargets(hidden, self.embedding), hidden, layer_outputs)
        stored_hidden = None if train_batch.hidden is None else train_batch.hidden.to(device).float()
        if train_batch.topk is not None:
            topk = train_batch.topk
            return TeacherTargets(
                TopKTargets(topk.ids.to(device), topk.logits.to(device), topk.lse.to(device)), stored_hidden
            )
        return TeacherTargets(
            None if stored_hidden is None else HiddenTargets(stored_hidden, self.embedding), stored_hidden
        )
