"""One optimiser step over one or more micro-batches."""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from whisperstill.distill.data_loader import TeacherTargetSource, TrainBatch
from whisperstill.distill.distillation_loss import LossConfig, distillation_loss
from whisperstill.distill.feature_losses import FeatureLossConfig
from whisperstill.distill.process_group import ProcessGroup
from whisperstill.distill.training_checkpoint import trainable_parameters
from whisperstill.model.decoder import LayerOutputs
from whisperstill.model.whisper import Whisper
from whisperstill.records.batch import TokenBatch
from whisperstill.records.loss_sums import LossSums


def accumulate_gradients(
    student: Whisper,
    teacher: TeacherTargetSource,
    micro_batches: Sequence[TrainBatch],
    loss_config: LossConfig,
    feature_loss_config: FeatureLossConfig,
    dtype: torch.dtype,
    process_group: ProcessGroup,
) -> tuple[LossSums, float]:
    """Gradients of the loss over all micro-batches of all processes, added to the student's; the sums and the loss.

    Every token weighs the same whatever micro-batch it stands in, and in whatever process: k micro-batches give the
    gradient of one batch. The student's own words are no labels: they count for the teacher's distribution alone.
    """
    all_batches = [micro_batch.batch for micro_batch in micro_batches]
    labeled_batches = [micro_batch.batch for micro_batch in micro_batches if not micro_batch.on_policy]
    total_ce_tokens, total_kl_tokens = process_group.all_reduce_sum(
        sum(float(batch.token_weights[batch.loss_mask].sum()) for batch in labeled_batches),
        sum(float(batch.token_weights[batch.kl_mask].sum()) for batch in all_batches),
    )
    sums, loss_value = LossSums(), 0.0
    for micro_batch in micro_batches:
        batch = micro_batch.batch.to(student.device)
        targets, layer_outputs = (
            teacher.targets(micro_batch, feature_loss_config.teacher_capture()),
            feature_loss_config.student_capture(),
        )
        hidden = _student_hidden(student, batch, dtype, layer_outputs)
        loss_mask = batch.loss_mask
        masked_hidden = hidden[loss_mask]
        kl_mask = batch.kl_mask[loss_mask]
        ce_mask = torch.full_like(kl_mask, not micro_batch.on_policy)
        token_weights = batch.token_weights[loss_mask]
        loss = masked_hidden.sum() * 0.0
        loss_parts = torch.zeros(3, dtype=torch.float64)
        if loss_config.ce_weight or loss_config.kl_weight:
            loss, loss_parts = distillation_loss(
                masked_hidden.to(dtype),
                student.decoder.embedding.weight.to(dtype),
                batch.target_ids[loss_mask],
                ce_mask,
                kl_mask,
                targets.distribution,
                loss_config,
                total_ce_tokens,
                total_kl_tokens,
                token_weights,
            )
        feature_losses: dict[str, Tensor] = {}
        if feature_loss_config.hidden_loss_weight and targets.hidden is not None:
            squared_error = (masked_hidden[kl_mask].float() - targets.hidden).square().mean(-1)
            feature_losses["hidden"] = (squared_error * token_weights[kl_mask]).sum()
        if layer_outputs is not None and targets.layer_outputs is not None:
            kl_token_weights = batch.token_weights * batch.kl_mask
            if feature_loss_config.layer_loss_weight:
                feature_losses["layers"] = feature_loss_config.layer_loss(
                    layer_outputs, targets.layer_outputs, kl_token_weights
                )
            if feature_loss_config.attention_loss_weight:
                feature_losses["attention"] = feature_loss_config.attention_loss(
                    layer_outputs, targets.layer_outputs, kl_token_weights
                )
        for name, feature_loss in feature_losses.items():
            loss = loss + feature_loss_config.weight_of(name) / (total_kl_tokens or 1.0) * feature_loss
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        loss_value += float(loss.detach())
        sums = sums + LossSums(
            cross_entropy=float(loss_parts[0]),
            kl=float(loss_parts[1]),
            **{name: float(feature_loss.detach()) for name, feature_loss in feature_losses.items()},
            correct_tokens=int(loss_parts[2]),
            loss_tokens=int(ce_mask.sum()),
            loss_token_weight=float(token_weights[ce_mask].sum()),
            kl_token_weight=float(token_weights[kl_mask].sum()),
        )
    process_group.all_reduce_gradients(trainable_parameters(student).values())
    global_sums = LossSums.from_values(process_group.all_reduce_sum(*sums))
    return global_sums, process_group.all_reduce_sum(loss_value)[0]


def _student_hidden(
    student: Whisper, batch: TokenBatch, dtype: torch.dtype, layer_outputs: LayerOutputs | None
) -> Tensor:
    """The student's last hidden states, teacher-forced; in bf16 under autocast, with float32 weights."""
    autocast = torch.autocast(student.device.type, torch.bfloat16) if dtype == torch.bfloat16 else nullcontext()
    with autocast:
        hidden = student.decoder.forward_packed(
            batch.decoder_ids, batch.lengths, batch.encoder_states.to(student.dtype), layer_outputs
        )
    return hidden.float()
