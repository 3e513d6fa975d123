"""Batches and the teacher's targets for them, from the store or live.

`top`     top-k and log-sum-exps from the store: nothing of the teacher is computed.
`hidden`  the teacher's last hidden states from the store: its exact distribution for one matrix product.
`live`    the teacher's decoder reads the very batch that the student reads: exact for every view, prompts included.

Encoder states come from the store where it holds them, else from the encoder; it is the same for both, frozen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from whisperstill.audio.mel import log_mel
from whisperstill.corpus.waveform import window_waveform
from whisperstill.distill.examples import Drawing, Example, View, compose
from whisperstill.errors import SettingsError
from whisperstill.label.store import LabelStore
from whisperstill.model.whisper import Whisper
from whisperstill.records.batch import Batch, HiddenTargets, TopTargets
from whisperstill.text.vocabulary import Vocabulary

TargetKind = Literal["top", "hidden", "live"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A batch with what the store says about it, in memory."""

    batch: Batch
    stored: TopTargets | Tensor | None
    """Top-k, or the teacher's hidden states `[taught, width]`, or nothing (live)."""


class BatchSource:
    """Builds batches. Thread-safe for one reader thread."""

    def __init__(
        self,
        store: LabelStore,
        network: Whisper,
        vocabulary: Vocabulary,
        drawing: Drawing,
        kind: TargetKind,
        temperature: float,
        from_store: bool,
    ) -> None:
        """`network` gives encoder states where the store has none. Raises `SettingsError` for what cannot be."""
        if kind == "top" and temperature not in (1.0, 2.0):
            raise SettingsError(
                f"temperature must be 1 or 2 with stored top-k (their log-sum-exps are stored), got {temperature:g}: "
                "use --targets hidden or live"
            )
        self.store = store
        self.network = network
        self.vocabulary = vocabulary
        self.drawing = drawing
        self.kind = kind
        self.temperature = temperature
        self.from_store = from_store
        self.windows_encoded = 0

    def load(self, examples: Sequence[Example], epoch: int) -> Loaded:
        """A batch for these examples as this epoch sees them, on the CPU."""
        views = [compose(example, self.vocabulary, self.drawing, epoch) for example in examples]
        longest = max(len(view.decoder_ids) for view in views)
        pad = self.vocabulary.end_of_text

        def padded(rows: Sequence[Sequence[int]], fill: int, dtype: torch.dtype = torch.long) -> Tensor:
            return torch.tensor([[*row, *[fill] * (longest - len(row))] for row in rows], dtype=dtype)

        scored = padded([view.scored for view in views], False, torch.bool)
        taught = scored.clone()
        if self.kind != "live":
            for row, view in enumerate(views):
                if not view.as_labelled:
                    taught[row] = False
        batch = Batch(
            windows=tuple(example.labelled.window.id for example in examples),
            states=self._states(examples),
            decoder_ids=padded([view.decoder_ids for view in views], pad),
            target_ids=padded([view.target_ids for view in views], pad),
            scored=scored,
            taught=taught,
        )
        return Loaded(batch, self._stored(examples, views))

    def _states(self, examples: Sequence[Example]) -> Tensor:
        if self.from_store:
            return torch.stack([self.store.states(example.labelled) for example in examples])
        waveforms = [torch.from_numpy(window_waveform(example.labelled.window)) for example in examples]
        self.windows_encoded += len(waveforms)
        with torch.inference_mode():
            mel = log_mel(torch.stack(waveforms).to(self.network.device), self.network.dims.mels)
            states = torch.cat([self.network.encoder(one[None]) for one in mel])
        return states.clone()

    def _stored(self, examples: Sequence[Example], views: Sequence[View]) -> TopTargets | Tensor | None:
        if self.kind == "live":
            return None
        hidden, ids, logits, lse = [], [], [], []
        for example, view in zip(examples, views, strict=True):
            if not view.as_labelled:
                continue
            steps = torch.tensor([s for s, scored in zip(view.steps, view.scored, strict=True) if scored])
            if self.kind == "hidden":
                hidden.append(self.store.hidden(example.labelled)[steps])
                continue
            top = self.store.top(example.labelled)
            ids.append(top.ids[steps])
            logits.append(top.logits[steps])
            lse.append((top.lse1 if self.temperature == 1.0 else top.lse2)[steps])
        if self.kind == "hidden":
            return torch.cat(hidden) if hidden else None
        return TopTargets(torch.cat(ids), torch.cat(logits), torch.cat(lse)) if ids else None


class TeacherDecoder:
    """The teacher's part in a step: nothing, its embedding, or its whole decoder."""

    def __init__(self, embedding: Tensor, network: Whisper | None) -> None:
        self.embedding = embedding
        self.network = network

    @torch.no_grad()
    def targets(self, loaded: Loaded) -> TopTargets | HiddenTargets | None:
        """Targets at the taught tokens of a batch."""
        batch, stored = loaded.batch, loaded.stored
        device = self.embedding.device
        if isinstance(stored, TopTargets):
            return TopTargets(stored.ids.to(device), stored.logits.to(device), stored.lse.to(device))
        if isinstance(stored, Tensor):
            return HiddenTargets(stored.to(device).float(), self.embedding)
        if self.network is None:
            return None
        decoder = self.network.decoder
        states = batch.states.to(device=device, dtype=self.network.dtype)
        position = torch.zeros(len(states), dtype=torch.long, device=device)
        hidden = decoder(batch.decoder_ids.to(device), position, decoder.forced(states))
        return HiddenTargets(hidden[batch.taught.to(device)].float(), self.embedding)
