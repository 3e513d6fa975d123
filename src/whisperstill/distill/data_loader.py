"""Data loader: collates the windows of a micro-batch, with their teacher targets from the label store.

Sequences are packed one after the other, so nothing is padded.
"""

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor

from whisperstill.distill.batch import OnPolicyBatch, TokenBatch
from whisperstill.distill.batch_sampler import MicroBatchSpec
from whisperstill.distill.dataset import TrainingExample, masked_positions, tokenize_example
from whisperstill.distill.encoder_states import EncoderStateSource, WindowStates, to_same_dtype
from whisperstill.distill.settings import ExampleOptions
from whisperstill.distill.teacher_targets import StoredTargetReader
from whisperstill.text.vocabulary import Vocabulary


class DataLoader:
    """Builds batches on the CPU. For one reader thread."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        example_options: ExampleOptions,
        state_source: EncoderStateSource,
        target_reader: StoredTargetReader,
    ) -> None:
        self._vocabulary, self._options = vocabulary, example_options
        self._state_source, self._target_reader = state_source, target_reader
        self.runs_encoder = state_source.runs_encoder

    def read(self, spec: MicroBatchSpec) -> TokenBatch | OnPolicyBatch:
        """The batch that the sampler planned."""
        return (self.load_on_policy if spec.on_policy else self.load)(spec.examples, spec.epoch)

    def load(self, examples: Sequence[TrainingExample], epoch: int) -> TokenBatch:
        """A batch of labelled examples. Raises `AudioError` or `StoreError` for audio or states that are gone."""
        window_states = self._state_source.load(examples, epoch)
        tokenized_examples = [tokenize_example(example, self._vocabulary, self._options, epoch) for example in examples]
        lengths = tuple(len(tokenized.decoder_ids) for tokenized in tokenized_examples)
        loss_mask = _concatenate([tokenized.loss_mask for tokenized in tokenized_examples])
        has_teacher_targets = [
            [self._target_reader.kind == "online" or tokenized.matches_teacher_input] * length
            for tokenized, length in zip(tokenized_examples, lengths, strict=True)
        ]
        return TokenBatch(
            examples,
            windows_encoded=sum(states.encoded for states in window_states),
            decoder_tokens=sum(lengths),
            encoder_states=self._masked_states(window_states, examples, epoch),
            lengths=lengths,
            decoder_ids=_concatenate([tokenized.decoder_ids for tokenized in tokenized_examples]),
            target_ids=_concatenate([tokenized.target_ids for tokenized in tokenized_examples]),
            loss_mask=loss_mask,
            kl_mask=loss_mask & _concatenate(has_teacher_targets),
            token_weights=_concatenate([tokenized.weights for tokenized in tokenized_examples]),
            stored=self._target_reader.read(examples, tokenized_examples, window_states),
        )

    def load_on_policy(self, examples: Sequence[TrainingExample], epoch: int) -> OnPolicyBatch:
        """A batch for the student to transcribe. Raises as `load`."""
        window_states = self._state_source.load(examples, epoch)
        start_tokens = tuple(self._vocabulary.sot_sequence(example.label.language) for example in examples)
        return OnPolicyBatch(
            examples,
            windows_encoded=sum(states.encoded for states in window_states),
            decoder_tokens=sum(map(len, start_tokens)),
            encoder_states=self._masked_states(window_states, examples, epoch),
            start_tokens=start_tokens,
        )

    def _masked_states(
        self, window_states: Sequence[WindowStates], examples: Sequence[TrainingExample], epoch: int
    ) -> Tensor:
        """Encoder states of the batch; masked ones are the mean of their window."""
        batch_states = torch.stack(to_same_dtype([window.states for window in window_states]))
        if self._options.encoder_mask_prob:
            for states, example in zip(batch_states, examples, strict=True):
                states[masked_positions(example, self._options, epoch)] = states.mean(0)
        return batch_states


def _concatenate(rows: Sequence[Sequence[int] | Sequence[bool] | Sequence[float]]) -> Tensor:
    return torch.tensor(list(chain.from_iterable(rows)))
