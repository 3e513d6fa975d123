"""Decoder distillation: gradient accumulation over micro-batches and processes.

Losses are sums scaled by counts over all processes, so that the step is the same however the windows are divided.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from whisperstill.decode.generate.logit_filter import LogitFilter
from whisperstill.distill.batch import OnPolicyBatch, TokenBatch
from whisperstill.distill.data_loader import DataLoader
from whisperstill.distill.distillation_loss import LossTargets, TokenTotals, distillation_loss
from whisperstill.distill.feature_losses import attention_loss, capture_layers, hidden_loss, layer_loss
from whisperstill.distill.on_policy import generate_on_policy
from whisperstill.distill.process_group import ProcessGroup
from whisperstill.distill.settings import LossConfig
from whisperstill.distill.teacher_targets import TeacherTargetSource
from whisperstill.model.decoder import LayerOutputs
from whisperstill.model.whisper import Whisper
from whisperstill.records.loss_sums import LossSums


class DecoderDistillation:
    """Training task: the student's decoder learns from pseudo-labels and the teacher's distribution."""

    def __init__(
        self,
        loader: DataLoader,
        student: Whisper,
        teacher: TeacherTargetSource,
        loss_config: LossConfig,
        dtype: torch.dtype,
        process_group: ProcessGroup,
        logit_filter: LogitFilter,
    ) -> None:
        """`dtype`: of computation; with bfloat16 the decoder runs under autocast. Weights and gradients are float32.

        `logit_filter`: token rules of on-policy transcription.
        """
        self.read, self.runs_encoder = loader.read, loader.runs_encoder
        self._student, self._teacher, self._config = student, teacher, loss_config
        self._dtype, self._process_group, self._logit_filter = dtype, process_group, logit_filter

    def accumulate_gradients(self, micro_batches: Sequence[TokenBatch | OnPolicyBatch]) -> tuple[LossSums, float]:
        """Add the gradients of a step to the student's; returns the sums and the loss of this process.

        The current student transcribes the on-policy batches. Every token has the same weight whatever its micro-batch
        or process: k micro-batches give the gradient of one batch.
        """
        # 1. Transcripts of the student.
        token_batches = [
            generate_on_policy(self._student, batch, self._logit_filter) if isinstance(batch, OnPolicyBatch) else batch
            for batch in micro_batches
        ]
        # 2. Token totals of the whole step, by which every loss is divided.
        labeled = [batch for batch in token_batches if batch.stored is not None]
        totals = TokenTotals(
            *self._process_group.all_reduce_sum(
                sum(float(batch.token_weights[batch.loss_mask].sum()) for batch in labeled),
                sum(float(batch.token_weights[batch.kl_mask].sum()) for batch in token_batches),
            )
        )
        # 3. Loss and backward pass, one micro-batch after another.
        sums, loss_value = LossSums(), 0.0
        for batch in token_batches:
            loss, micro_batch_sums = self._loss(batch.to(self._student.device), totals)
            if loss.requires_grad:
                loss.backward()  # type: ignore[no-untyped-call]
            loss_value += float(loss.detach())
            sums = sums + micro_batch_sums
        return sums, loss_value

    def _loss(self, batch: TokenBatch, totals: TokenTotals) -> tuple[Tensor, LossSums]:
        """The loss of a micro-batch as its share of the step, and its sums. On-policy batches have no cross-entropy."""
        config, loss_mask, kl_mask = self._config, batch.loss_mask, batch.kl_mask
        # 1. Teacher and student.
        student_layers, teacher_layers = capture_layers(config, self._teacher.layers)
        targets = self._teacher.targets(batch, teacher_layers)
        hidden = self._student_hidden(batch, student_layers)
        # 2. Cross-entropy and KL.
        ce_mask = loss_mask if batch.stored is not None else torch.zeros_like(loss_mask)
        loss_targets = LossTargets(
            target_ids=batch.target_ids[loss_mask],
            ce_mask=ce_mask[loss_mask],
            kl_mask=kl_mask[loss_mask],
            teacher=self._teacher.distribution(targets),
            token_weights=batch.token_weights[loss_mask],
        )
        if config.ce_weight or config.kl_weight:
            embedding = self._student.decoder.embedding.weight.to(self._dtype)
            loss, token_sums = distillation_loss(
                hidden[loss_mask].to(self._dtype), embedding, loss_targets, config, totals
            )
        else:
            loss, token_sums = hidden[loss_mask].sum() * 0.0, torch.zeros(3, dtype=torch.float64)
        # 3. Feature losses.
        hidden_sum = layer_sum = attention_sum = torch.zeros((), device=hidden.device)
        if config.hidden_loss_weight and targets.hidden is not None:
            hidden_sum = hidden_loss(hidden[kl_mask], targets.hidden, batch.token_weights[kl_mask])
        if student_layers is not None and teacher_layers is not None:
            token_weights = batch.token_weights * kl_mask
            if config.layer_loss_weight:
                layer_sum = layer_loss(student_layers, teacher_layers, self._teacher.layers, token_weights)
            if config.attention_loss_weight:
                attention_sum = attention_loss(student_layers, teacher_layers, self._teacher.layers, token_weights)
        weights = config.hidden_loss_weight, config.layer_loss_weight, config.attention_loss_weight
        for weight, feature_sum in zip(weights, (hidden_sum, layer_sum, attention_sum), strict=True):
            loss = loss + weight / (totals.kl or 1.0) * feature_sum
        return loss, LossSums(
            cross_entropy=float(token_sums[0]),
            kl=float(token_sums[1]),
            hidden=float(hidden_sum.detach()),
            layers=float(layer_sum.detach()),
            attention=float(attention_sum.detach()),
            correct_tokens=int(token_sums[2]),
            loss_tokens=int(ce_mask.sum()),
            loss_token_weight=float(batch.token_weights[ce_mask].sum()),
            kl_token_weight=float(batch.token_weights[kl_mask].sum()),
        )

    def _student_hidden(self, batch: TokenBatch, layer_outputs: LayerOutputs | None) -> Tensor:
        """The student's last hidden states under teacher forcing, in float32."""
        with torch.autocast(self._student.device.type, torch.bfloat16, enabled=self._dtype == torch.bfloat16):
            hidden = self._student.decoder.forward_packed(
                batch.decoder_ids, batch.lengths, batch.encoder_states.to(self._student.dtype), layer_outputs
            )
        return hidden.float()
