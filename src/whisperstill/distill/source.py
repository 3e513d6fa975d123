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
from whisperstill.distill.examples import Drawing, Example, View, compose, masked
from whisperstill.distill.views import Heard, Views
from whisperstill.errors import SettingsError
from whisperstill.label.store import LabelStore
from whisperstill.model.decoder import Inside
from whisperstill.model.whisper import Whisper
from whisperstill.records.batch import Batch, HiddenTargets, TopTargets
from whisperstill.text.vocabulary import Vocabulary

TargetKind = Literal["top", "hidden", "live"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A batch with what the store says about it, in memory."""

    batch: Batch
    top: TopTargets | None
    """Top-k at the taught tokens, where the loss is taken from it."""
    hidden: Tensor | None
    """The teacher's last hidden states `[taught, width]`, where the loss needs them."""
    seconds: float
    """Of audio."""
    own: bool = False
    """Whether the student says these windows itself (see `own_words`): the batch is at first what it begins with."""
    said: tuple[int, ...] = ()
    """Tokens of the teacher's in each of them."""


@dataclass(frozen=True, slots=True)
class Targets:
    """What the teacher says about a batch's taught tokens."""

    distribution: TopTargets | HiddenTargets | None
    hidden: Tensor | None
    """Last hidden states `[taught, width]`."""
    inside: Inside | None = None
    """Its way through the layers, at all tokens, where it was asked for."""


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
        wants_hidden: bool,
        views: Views | None = None,
    ) -> None:
        """`network` gives encoder states where the store has none; `wants_hidden` asks for the teacher's last hidden
        states beside its top-k; `views` give windows anew. Raises `SettingsError` for what cannot be."""
        if kind == "top" and views is not None:
            raise SettingsError("views have no stored top-k: use --targets hidden or live")
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
        self.wants_hidden = wants_hidden
        self.views = views
        self.windows_encoded = 0

    @property
    def encodes(self) -> bool:
        """Whether the encoder may be asked for a batch."""
        return self.views is not None or not self.from_store

    def load(self, examples: Sequence[Example], epoch: int, own: bool = False) -> Loaded:
        """A batch for these examples as this epoch sees them, on the CPU. `own`: for the student to say itself."""
        heard = [self.views.view(example, epoch) if self.views else None for example in examples]
        windows = tuple(example.labelled.window.id for example in examples)
        states = self._masked(self._states(examples, heard), examples, epoch)
        seconds = sum(example.labelled.window.duration for example in examples)
        if own:
            starts = [self.vocabulary.start(example.labelled.language) for example in examples]
            nowhere = torch.zeros(sum(map(len, starts)), dtype=torch.bool)
            lengths = tuple(map(len, starts))
            ones = torch.ones(len(nowhere))
            begun = Batch(windows, states, lengths, _joined(starts), _joined(starts), nowhere, nowhere, ones)
            said = tuple(len(example.labelled.tokens) for example in examples)
            return Loaded(begun, None, None, seconds, own, said)
        views = [compose(example, self.vocabulary, self.drawing, epoch) for example in examples]
        scored = _joined([view.scored for view in views])
        known = [[self.kind == "live" or view.as_labelled] * len(view.scored) for view in views]
        batch = Batch(
            windows=windows,
            states=states,
            lengths=tuple(len(view.decoder_ids) for view in views),
            decoder_ids=_joined([view.decoder_ids for view in views]),
            target_ids=_joined([view.target_ids for view in views]),
            scored=scored,
            taught=scored & _joined(known),
            weights=_joined([view.weights for view in views]),
        )
        return Loaded(batch, self._top(examples, views), self._hidden(examples, views, heard), seconds)

    def _states(self, examples: Sequence[Example], heard: Sequence[Heard | None]) -> Tensor:
        """Those of views, and the others from the store or the encoder."""
        self.windows_encoded += sum(one is not None and one.encoded for one in heard)
        plain = iter(self._plain_states([one for one, view in zip(examples, heard, strict=True) if view is None]))
        rows = [next(plain) if view is None else view.states for view in heard]
        kind = rows[0].dtype if all(row.dtype == rows[0].dtype for row in rows) else torch.float32
        return torch.stack([row.to(kind) for row in rows])

    def _plain_states(self, examples: Sequence[Example]) -> Sequence[Tensor]:
        if self.from_store or not examples:
            return [self.store.states(example.labelled) for example in examples]
        waveforms = [torch.from_numpy(window_waveform(example.labelled.window)) for example in examples]
        self.windows_encoded += len(waveforms)
        with torch.no_grad():
            mel = log_mel(torch.stack(waveforms).to(self.network.device), self.network.dims.mels)
            return [self.network.encoder(one[None])[0].cpu() for one in mel]

    def _masked(self, states: Tensor, examples: Sequence[Example], epoch: int) -> Tensor:
        """Hidden states are the window's mean."""
        if self.drawing.state_masks:
            for state, example in zip(states, examples, strict=True):
                state[masked(example, self.drawing, epoch)] = state.mean(0)
        return states

    def _top(self, examples: Sequence[Example], views: Sequence[View]) -> TopTargets | None:
        taught = [(one, _steps(view)) for one, view in zip(examples, views, strict=True) if view.as_labelled]
        if self.kind != "top" or not taught:
            return None
        rows = [(self.store.top(example.labelled), steps) for example, steps in taught]
        return TopTargets(
            ids=torch.cat([top.ids[steps] for top, steps in rows]),
            logits=torch.cat([top.logits[steps] for top, steps in rows]),
            lse=torch.cat([(top.lse1 if self.temperature == 1.0 else top.lse2)[steps] for top, steps in rows]),
        )

    def _hidden(
        self, examples: Sequence[Example], views: Sequence[View], heard: Sequence[Heard | None]
    ) -> Tensor | None:
        taught = [(*row, _steps(row[1])) for row in zip(examples, views, heard, strict=True) if row[1].as_labelled]
        wanted = self.kind == "hidden" or (self.kind == "top" and self.wants_hidden)
        if not wanted or not taught:
            return None
        rows = [
            (self.store.hidden(example.labelled) if view is None else view.hidden)[steps]
            for example, _, view, steps in taught
        ]
        kind = rows[0].dtype if all(row.dtype == rows[0].dtype for row in rows) else torch.float32
        return torch.cat([row.to(kind) for row in rows])


def _joined(rows: Sequence[Sequence[int] | Sequence[bool] | Sequence[float]]) -> Tensor:
    """Sequences one behind the other."""
    return torch.tensor([value for row in rows for value in row])


def _steps(view: View) -> Tensor:
    """The teacher's steps at a view's scored tokens."""
    return torch.tensor(
        [step for step, scored in zip(view.steps, view.scored, strict=True) if scored], dtype=torch.long
    )


class TeacherDecoder:
    """The teacher's part in a step: its embedding, or its whole decoder."""

    def __init__(self, embedding: Tensor, network: Whisper | None, reads_all: bool = True) -> None:
        """`reads_all`: the `network` reads every batch, not only the student's own words."""
        self.embedding = embedding
        self.network = network
        self.reads_all = reads_all

    @torch.no_grad()
    def targets(self, loaded: Loaded, inside: Inside | None = None) -> Targets:
        """Targets at the taught tokens of a batch; a teacher that reads it fills `inside`."""
        batch, device = loaded.batch, self.embedding.device
        if self.network is not None and (self.reads_all or loaded.own):
            decoder = self.network.decoder
            states = batch.states.to(device=device, dtype=self.network.dtype)
            hidden = decoder.packed(batch.decoder_ids.to(device), batch.lengths, states, inside)
            hidden = hidden[batch.taught.to(device)].float()
            return Targets(HiddenTargets(hidden, self.embedding), hidden, inside)
        stored = None if loaded.hidden is None else loaded.hidden.to(device).float()
        if loaded.top is not None:
            top = loaded.top
            return Targets(TopTargets(top.ids.to(device), top.logits.to(device), top.lse.to(device)), stored)
        return Targets(None if stored is None else HiddenTargets(stored, self.embedding), stored)
