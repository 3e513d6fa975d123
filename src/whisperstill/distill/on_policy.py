"""On-policy distillation: the student transcribes, and the teacher says what it would have said at each token.

Taught on the teacher's tokens alone, a student never sees what its own mistakes lead to. In the last stretch of
training some windows are therefore decoded greedily by the student as it is then, and it is taught the teacher's
distribution along its own words (Agarwal et al. 2024, arXiv 2306.13649); pseudo-labels, which know nothing of these
prefixes, have no say.
"""

from dataclasses import replace

import torch

from whisperstill.decode.generate.batch_scheduler import DecodeRequest
from whisperstill.decode.generate.generator import generate
from whisperstill.decode.generate.logit_filter import LogitFilter
from whisperstill.distill.data_loader import TrainBatch
from whisperstill.distill.dataset import TrainingExample
from whisperstill.model.whisper import Whisper
from whisperstill.records.seeding import rng
from whisperstill.units import MAX_NEW_TOKENS

ON_POLICY_WINDOW_FRACTION = 0.5
"""Of the windows in the last stretch that the student says itself; the labels of the others keep it from drifting."""
MAX_EXTRA_TOKENS = 16
"""Tokens that it may say beyond the teacher's: enough to see that it should have stopped, too few to loop for long."""


def use_on_policy(example: TrainingExample, seed: int, step: int) -> bool:
    """Whether the student is to say this window in this step. Not where the filter dropped a part of it."""
    return all(example.utterance_mask) and bool(
        rng(seed, step, example.label.window.id, "own words").random() < ON_POLICY_WINDOW_FRACTION
    )


def generate_on_policy(student: Whisper, start_batch: TrainBatch, logit_filter: LogitFilter) -> TrainBatch:
    """The batch with the student's own words."""
    was_training, batch = student.training, start_batch.batch
    student.eval()
    start_tokens = batch.decoder_ids.view(len(batch.lengths), -1)
    token_limits = [min(MAX_NEW_TOKENS, count + MAX_EXTRA_TOKENS) for count in start_batch.label_lengths]
    states = batch.encoder_states.to(student.device, student.dtype)
    with torch.no_grad():
        requests = [
            DecodeRequest(window_states, tuple(tokens), max_new_tokens=limit)
            for window_states, tokens, limit in zip(states, start_tokens.tolist(), token_limits, strict=True)
        ]
        results = generate(student, logit_filter, requests)
    student.train(was_training)
    end_of_text, prefix_length = logit_filter.vocabulary.end_of_text, start_tokens.shape[1] - 1
    sequences = [
        [*start, *result.tokens, *([end_of_text] if result.ended else [])]
        for start, result in zip(start_tokens.tolist(), results, strict=True)
    ]
    loss_mask = torch.tensor(
        [position >= prefix_length for sequence in sequences for position in range(len(sequence) - 1)]
    )
    on_policy_batch = replace(
        batch,
        lengths=tuple(len(sequence) - 1 for sequence in sequences),
        decoder_ids=torch.tensor([token for sequence in sequences for token in sequence[:-1]]),
        target_ids=torch.tensor([token for sequence in sequences for token in sequence[1:]]),
        loss_mask=loss_mask,
        kl_mask=loss_mask,
        token_weights=torch.ones(len(loss_mask)),
    )
    return replace(start_batch, batch=on_policy_batch)
