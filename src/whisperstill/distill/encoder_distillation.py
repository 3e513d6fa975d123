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
from whisperstill.corpus.loading import load_window_waveform
from whisperstill.distill.augmentation_cache import AugmentationCache
from whisperstill.distill.data_loader import TrainBatch
from whisperstill.distill.dataset import TrainingExample
from whisperstill.distill.process_group import ProcessGroup
from whisperstill.distill.training_checkpoint import trainable_parameters
from whisperstill.label.store import LabelStore
from whisperstill.model.trimmed_encoder import TAIL_POSITIONS
from whisperstill.model.whisper import Whisper
from whisperstill.records.batch import TokenBatch
from whisperstill.records.loss_sums import LossSums
from whisperstill.units import TIMESTAMP_STEP_SECONDS

SILENCE_WEIGHT = 0.1
"""What a position counts that holds no sound."""


@dataclass(frozen=True, slots=True)
class EncoderBatch(TrainBatch):
    """Windows as the encoder reads them; the batch holds the teacher's states and no tokens."""

    mel: Float[Tensor, "batch mels frames"] | None = None
    position_weights: Float[Tensor, "batch positions"] | None = None
    """How much each position counts."""


class EncoderDataLoader:
    """Windows with the teacher's states, from the store."""

    augmentation_cache: AugmentationCache | None = None
    runs_encoder = False

    def __init__(self, store: LabelStore, mels: int) -> None:
        self.store, self.mels = store, mels
        self.windows_encoded = 0
        """Windows that the student's encoder was given."""

    def load(self, examples: Sequence[TrainingExample], epoch: int, on_policy: bool = False) -> EncoderBatch:
        """A batch, on the CPU; every epoch hears the same. Raises `AudioError` for audio that is gone."""
        self.windows_encoded += len(examples)
        windows = [example.label.window for example in examples]
        states = torch.stack([self.store.read_encoder_states(example.label) for example in examples])
        empty = torch.zeros(0, dtype=torch.long)
        batch = TokenBatch(
            window_ids=tuple(window.id for window in windows),
            encoder_states=states,
            lengths=(0,) * len(windows),
            decoder_ids=empty,
            target_ids=empty,
            loss_mask=empty.bool(),
            kl_mask=empty.bool(),
            token_weights=empty.float(),
        )
        position_weights = torch.full(states.shape[:2], SILENCE_WEIGHT)
        for row, window in enumerate(windows):
            position_weights[row, : round(window.duration / TIMESTAMP_STEP_SECONDS) + TAIL_POSITIONS] = 1.0
        waveforms = torch.stack([torch.from_numpy(load_window_waveform(window)) for window in windows])
        seconds = sum(window.duration for window in windows)
        return EncoderBatch(
            batch, None, None, seconds, mel=log_mel(waveforms, self.mels), position_weights=position_weights
        )


def accumulate_encoder_gradients(
    student: Whisper, micro_batches: Sequence[EncoderBatch], dtype: torch.dtype, process_group: ProcessGroup
) -> tuple[LossSums, float]:
    """Gradients of the loss over all micro-batches of all processes, added to the student's; the sums and the loss.

    Every position weighs the same whatever micro-batch or process it stands in, but for sound and silence.
    """
    (total_weight,) = process_group.all_reduce_sum(
        sum(
            float(micro_batch.position_weights.sum())
            for micro_batch in micro_batches
            if micro_batch.position_weights is not None
        )
    )
    sums, loss_value = LossSums(), 0.0
    device = student.device
    autocast = torch.autocast(device.type, torch.bfloat16) if dtype == torch.bfloat16 else nullcontext()
    for micro_batch in micro_batches:
        assert micro_batch.mel is not None and micro_batch.position_weights is not None
        for row in range(len(micro_batch.mel)):  # a window is work enough for any machine
            with autocast:
                states = student.encoder(micro_batch.mel[row : row + 1].to(device))
            target = micro_batch.batch.encoder_states[row : row + 1].to(device).float()
            position_weights = micro_batch.position_weights[row : row + 1].to(device)
            squared_error = ((states.float() - target).square().mean(-1) * position_weights).sum()
            (squared_error / total_weight).backward()
            loss_value += float(squared_error.detach()) / total_weight
            sums = sums + LossSums(hidden=float(squared_error.detach()), kl_token_weight=float(position_weights.sum()))
    process_group.all_reduce_gradients(trainable_parameters(student).values())
    return LossSums.from_values(process_group.all_reduce_sum(*sums)), process_group.all_reduce_sum(loss_value)[0]
