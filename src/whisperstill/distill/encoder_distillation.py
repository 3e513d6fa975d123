"""Encoder distillation: train a shallower encoder to reproduce the teacher's stored encoder states.

The teacher does not run and no transcript is used. The loss is the mean squared error between the states of both, over
the positions with audio and one second after it; positions of silence have a tenth of the weight, since the decoder
attends to them, too. The decisions of the filter do not matter: an encoder learns from all audio.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from whisperstill.audio.mel import log_mel
from whisperstill.corpus.loading import load_window_waveform
from whisperstill.distill.batch import WindowBatch
from whisperstill.distill.batch_sampler import MicroBatchSpec
from whisperstill.distill.process_group import ProcessGroup
from whisperstill.label.store import LabelStore
from whisperstill.model.trimmed_encoder import TAIL_POSITIONS
from whisperstill.model.whisper import Whisper
from whisperstill.records.loss_sums import LossSums
from whisperstill.units import TIMESTAMP_STEP_SECONDS

SILENCE_WEIGHT = 0.1
"""Weight of a position without audio."""


@dataclass(frozen=True, slots=True)
class EncoderBatch(WindowBatch):
    """Spectrograms of windows, with the teacher's states."""

    mel: Float[Tensor, "batch mels frames"]
    teacher_states: Float[Tensor, "batch positions width"]
    position_weights: Float[Tensor, "batch positions"]


class EncoderDistillation:
    """Training task: the student's encoder learns the teacher's encoder states."""

    runs_encoder = False

    def __init__(self, student: Whisper, store: LabelStore, dtype: torch.dtype, process_group: ProcessGroup) -> None:
        """`dtype`: of computation; with bfloat16 the encoder runs under autocast."""
        self._student, self._store, self._dtype, self._process_group = student, store, dtype, process_group

    def read(self, spec: MicroBatchSpec) -> EncoderBatch:
        """The planned batch, on the CPU; the same in every epoch. Raises `AudioError` if the audio is gone."""
        windows = [example.label.window for example in spec.examples]
        states = torch.stack([self._store.read_encoder_states(example.label) for example in spec.examples])
        position_weights = torch.full(states.shape[:2], SILENCE_WEIGHT)
        for row, window in enumerate(windows):
            position_weights[row, : round(window.duration / TIMESTAMP_STEP_SECONDS) + TAIL_POSITIONS] = 1.0
        waveforms = torch.stack([torch.from_numpy(load_window_waveform(window)) for window in windows])
        return EncoderBatch(
            spec.examples,
            windows_encoded=len(windows),
            decoder_tokens=0,
            mel=log_mel(waveforms, self._student.dims.mels),
            teacher_states=states,
            position_weights=position_weights,
        )

    def accumulate_gradients(self, micro_batches: Sequence[EncoderBatch]) -> tuple[LossSums, float]:
        """Add the gradients of a step to the student's; returns the sums and the loss of this process.

        A position has the same weight whatever its micro-batch or process.
        """
        (total_weight,) = self._process_group.all_reduce_sum(
            sum(float(micro_batch.position_weights.sum()) for micro_batch in micro_batches)
        )
        sums, loss_value = LossSums(), 0.0
        device = self._student.device
        autocast = torch.autocast(device.type, torch.bfloat16, enabled=self._dtype == torch.bfloat16)
        for micro_batch in micro_batches:
            for row in range(len(micro_batch.mel)):  # one window keeps any machine busy
                with autocast:
                    states = self._student.encoder(micro_batch.mel[row : row + 1].to(device))
                target = micro_batch.teacher_states[row : row + 1].to(device).float()
                weights = micro_batch.position_weights[row : row + 1].to(device)
                squared_error = ((states.float() - target).square().mean(-1) * weights).sum()
                (squared_error / total_weight).backward()
                loss_value += float(squared_error.detach()) / total_weight
                sums = sums + LossSums(hidden=float(squared_error.detach()), kl_token_weight=float(weights.sum()))
        return sums, loss_value
