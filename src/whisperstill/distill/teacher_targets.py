"""The teacher's targets for a batch.

`topk`    top-k and log-sum-exp from the store; the teacher does not run.
`hidden`  last hidden states from the store: the exact distribution, for one matrix product.
`online`  the teacher's decoder runs on the batch of the student: exact for prompts and masked states, too.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from whisperstill.distill.batch import HiddenTargets, TeacherTargets, TokenBatch, TopKTargets
from whisperstill.distill.dataset import TokenizedExample, TrainingExample
from whisperstill.distill.encoder_states import WindowStates, to_same_dtype
from whisperstill.distill.settings import TargetKind
from whisperstill.label.store import LabelStore
from whisperstill.model.decoder import LayerOutputs
from whisperstill.model.whisper import Whisper


class StoredTargetReader:
    """Reads the targets of a batch from the label store."""

    def __init__(self, store: LabelStore, kind: TargetKind, temperature: float, needs_hidden: bool) -> None:
        """`needs_hidden`: read last hidden states beside the top-k. `temperature` must be 1 or 2 for top-k."""
        self._store, self._temperature = store, temperature
        self.kind = kind
        self._reads_hidden = kind == "hidden" or (kind == "topk" and needs_hidden)

    def read(
        self,
        examples: Sequence[TrainingExample],
        tokenized_examples: Sequence[TokenizedExample],
        window_states: Sequence[WindowStates],
    ) -> TeacherTargets:
        """Targets of the examples whose decoder input is the one the teacher labelled with."""
        rows = [
            (example, states, _teacher_steps(tokenized))
            for example, tokenized, states in zip(examples, tokenized_examples, window_states, strict=True)
            if tokenized.matches_teacher_input
        ]
        if not rows:
            return TeacherTargets()
        topk = self._read_topk([(example, steps) for example, _, steps in rows]) if self.kind == "topk" else None
        if not self._reads_hidden:
            return TeacherTargets(topk)
        hidden = []
        for example, states, steps in rows:
            augmented = states.augmented_hidden
            hidden.append((self._store.read_hidden_states(example.label) if augmented is None else augmented)[steps])
        return TeacherTargets(topk, torch.cat(to_same_dtype(hidden)))

    def _read_topk(self, rows: Sequence[tuple[TrainingExample, Tensor]]) -> TopKTargets:
        topk_rows = [(self._store.read_topk(example.label), steps) for example, steps in rows]
        return TopKTargets(
            ids=torch.cat([topk.ids[steps] for topk, steps in topk_rows]),
            logits=torch.cat([topk.logits[steps] for topk, steps in topk_rows]),
            lse=torch.cat([(topk.lse1 if self._temperature == 1.0 else topk.lse2)[steps] for topk, steps in topk_rows]),
        )


def _teacher_steps(tokenized: TokenizedExample) -> Tensor:
    """Decoding steps of the teacher at the tokens in the loss."""
    return torch.tensor(
        [step for step, in_loss in zip(tokenized.teacher_steps, tokenized.loss_mask, strict=True) if in_loss],
        dtype=torch.long,
    )


class TeacherTargetSource:
    """Completes stored targets with the teacher's embedding, or computes targets with the teacher's decoder."""

    def __init__(
        self,
        embedding: Tensor,
        network: Whisper | None = None,
        online: bool = True,
        layers: tuple[int, ...] = (),
    ) -> None:
        """`online`: `network` runs on every batch, not only on on-policy batches.

        `layers`: layers of the network that the student was copied from, for feature losses.
        """
        self.embedding, self.network, self.layers = embedding, network, layers
        self._online = online

    @torch.no_grad()
    def targets(self, batch: TokenBatch, layer_outputs: LayerOutputs | None = None) -> TeacherTargets:
        """Targets at the tokens in the KL loss; without stored targets (on-policy) the teacher runs.

        `batch` is on the device of the embedding. A teacher that runs fills `layer_outputs`.
        """
        if self.network is not None and (self._online or batch.stored is None):
            states = batch.encoder_states.to(self.network.dtype)
            hidden = self.network.decoder.forward_packed(batch.decoder_ids, batch.lengths, states, layer_outputs)
            return TeacherTargets(hidden=hidden[batch.kl_mask].float())
        if batch.stored is None:
            return TeacherTargets()
        topk, stored_hidden = batch.stored.topk, batch.stored.hidden
        device = self.embedding.device
        return TeacherTargets(
            None if topk is None else topk.to(device),
            None if stored_hidden is None else stored_hidden.to(device).float(),
        )

    def distribution(self, targets: TeacherTargets) -> TopKTargets | HiddenTargets | None:
        """The distribution that the targets give; None: they have no token."""
        if targets.topk is not None or targets.hidden is None:
            return targets.topk
        return HiddenTargets(targets.hidden, self.embedding)
