"""One optimiser step over one or more micro-batches."""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from whisperstill.distill.checkpointing import trained
from whisperstill.distill.matching import Matching
from whisperstill.distill.objective import Weights, objective
from whisperstill.distill.ranks import Ranks
from whisperstill.distill.source import Loaded, TeacherDecoder
from whisperstill.model.decoder import Inside
from whisperstill.model.whisper import Whisper
from whisperstill.records.batch import Batch
from whisperstill.records.losses import LossSums


def accumulate(
    student: Whisper,
    teacher: TeacherDecoder,
    micro_batches: Sequence[Loaded],
    weights: Weights,
    matching: Matching,
    dtype: torch.dtype,
    ranks: Ranks,
) -> tuple[LossSums, float]:
    """Gradients of the loss over all micro-batches of all processes, added to the student's; the sums and the loss.

    Every token weighs the same whatever micro-batch it stands in, and in whatever process: k micro-batches give the
    gradient of one batch. The student's own words are no labels: they count for the teacher's distribution alone.
    """
    all_batches = [loaded.batch for loaded in micro_batches]
    labelled_ones = [loaded.batch for loaded in micro_batches if not loaded.own]
    total_scored, total_taught = ranks.total(
        sum(float(batch.weights[batch.scored].sum()) for batch in labelled_ones),
        sum(float(batch.weights[batch.taught].sum()) for batch in all_batches),
    )
    sums, loss_value = LossSums(), 0.0
    for loaded in micro_batches:
        batch = loaded.batch.to(student.device)
        targets, inside = teacher.targets(loaded, matching.of_teacher()), matching.of_student()
        hidden = _student_hidden(student, batch, dtype, inside)
        rows = batch.scored
        flat = hidden[rows]
        taught = batch.taught[rows]
        labelled = torch.full_like(taught, not loaded.own)
        counts = batch.weights[rows]
        loss = flat.sum() * 0.0
        parts = torch.zeros(3, dtype=torch.float64)
        if weights.alpha_pl or weights.alpha_kl:
            loss, parts = objective(
                flat.to(dtype),
                student.decoder.embedding.weight.to(dtype),
                batch.target_ids[rows],
                labelled,
                taught,
                targets.distribution,
                weights,
                total_scored,
                total_taught,
                counts,
            )
        distances: dict[str, Tensor] = {}
        if matching.hidden and targets.hidden is not None:
            squared = (flat[taught].float() - targets.hidden).square().mean(-1)
            distances["hidden"] = (squared * counts[taught]).sum()
        if inside is not None and targets.inside is not None:
            where = batch.weights * batch.taught
            if matching.layers:
                distances["layers"] = matching.layer_distance(inside, targets.inside, where)
            if matching.attention:
                distances["attention"] = matching.attention_distance(inside, targets.inside, where)
        for name, distance in distances.items():
            loss = loss + getattr(matching, name) / (total_taught or 1.0) * distance
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        loss_value += float(loss.detach())
        sums = sums + LossSums(
            cross_entropy=float(parts[0]),
            kl=float(parts[1]),
            **{name: float(distance.detach()) for name, distance in distances.items()},
            correct=int(parts[2]),
            scored=int(labelled.sum()),
            scored_weight=float(counts[labelled].sum()),
            taught_weight=float(counts[taught].sum()),
        )
    ranks.sum_gradients(trained(student).values())
    everywhere = LossSums.of(ranks.total(*sums))
    return everywhere, ranks.total(loss_value)[0]


def _student_hidden(student: Whisper, batch: Batch, dtype: torch.dtype, inside: Inside | None) -> Tensor:
    """The student's last hidden states, teacher-forced; in bf16 under autocast, with float32 weights."""
    mixed = torch.autocast(student.device.type, torch.bfloat16) if dtype == torch.bfloat16 else nullcontext()
    with mixed:
        hidden = student.decoder.packed(batch.decoder_ids, batch.lengths, batch.states.to(student.dtype), inside)
    return hidden.float()
