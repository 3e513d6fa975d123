"""A smaller encoder learns to say what the teacher's said: the states that the label store keeps.

Nothing of the teacher runs, and no word is needed: the loss is the mean squared error between the states of both, over
the positions that hold sound and a second behind them; what is silence counts for a tenth, since the decoder looks
there, too. Which frames, tokens or utterances the filter kept makes no difference to what an encoder should hear.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from whisperstill.audio.mel import log_mel
from whisperstill.corpus.waveform import window_waveform
from whisperstill.distill.checkpointing import trained
from whisperstill.distill.examples import Example
from whisperstill.distill.ranks import Ranks
from whisperstill.distill.source import Loaded
from whisperstill.distill.views import Views
from whisperstill.label.store import LabelStore
from whisperstill.model.true_length import TAIL
from whisperstill.model.whisper import Whisper
from whisperstill.records.batch import Batch
from whisperstill.records.losses import LossSums
from whisperstill.units import TIMESTAMP_SECONDS

SILENCE = 0.1
"""What a position counts that holds no sound."""


@dataclass(frozen=True, slots=True)
class Sounds(Loaded):
    """Windows as the encoder reads them; the batch holds the teacher's states and no tokens."""

    mel: Float[Tensor, "batch mels frames"] | None = None
    counts: Float[Tensor, "batch positions"] | None = None
    """How much each position counts."""


class SoundSource:
    """Windows with the teacher's states, from the store."""

    views: Views | None = None
    encodes = False

    def __init__(self, store: LabelStore, mels: int) -> None:
        self.store, self.mels = store, mels
        self.windows_encoded = 0
        """Windows that the student's encoder was given."""

    def load(self, examples: Sequence[Example], epoch: int, own: bool = False) -> Sounds:
        """A batch, on the CPU; every epoch hears the same. Raises `AudioError` for audio that is gone."""
        self.windows_encoded += len(examples)
        windows = [example.labelled.window for example in examples]
        states = torch.stack([self.store.states(example.labelled) for example in examples])
        none = torch.zeros(0, dtype=torch.long)
        batch = Batch(
            windows=tuple(window.id for window in windows),
            states=states,
            lengths=(0,) * len(windows),
            decoder_ids=none,
            target_ids=none,
            scored=none.bool(),
            taught=none.bool(),
            weights=none.float(),
        )
        counts = torch.full(states.shape[:2], SILENCE)
        for row, window in enumerate(windows):
            counts[row, : round(window.duration / TIMESTAMP_SECONDS) + TAIL] = 1.0
        waveforms = torch.stack([torch.from_numpy(window_waveform(window)) for window in windows])
        seconds = sum(window.duration for window in windows)
        return Sounds(batch, None, None, seconds, mel=log_mel(waveforms, self.mels), counts=counts)


def learn_states(
    student: Whisper, micro_batches: Sequence[Sounds], dtype: torch.dtype, ranks: Ranks
) -> tuple[LossSums, float]:
    """Gradients of the loss over all micro-batches of all processes, added to the student's; the sums and the loss.

    Every position weighs the same whatever micro-batch or process it stands in, but for sound and silence.
    """
    (total,) = ranks.total(sum(float(one.counts.sum()) for one in micro_batches if one.counts is not None))
    sums, loss_value = LossSums(), 0.0
    device = student.device
    mixed = torch.autocast(device.type, torch.bfloat16) if dtype == torch.bfloat16 else nullcontext()
    for loaded in micro_batches:
        assert loaded.mel is not None and loaded.counts is not None
        for row in range(len(loaded.mel)):  # a window is work enough for any machine
            with mixed:
                states = student.encoder(loaded.mel[row : row + 1].to(device))
            target = loaded.batch.states[row : row + 1].to(device).float()
            counts = loaded.counts[row : row + 1].to(device)
            distance = ((states.float() - target).square().mean(-1) * counts).sum()
            (distance / total).backward()
            loss_value += float(distance.detach()) / total
            sums = sums + LossSums(hidden=float(distance.detach()), taught_weight=float(counts.sum()))
    ranks.sum_gradients(trained(student).values())
    return LossSums.of(ranks.total(*sums)), ranks.total(loss_value)[0]
