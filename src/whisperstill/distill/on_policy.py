"""On-policy distillation: the student transcribes, the teacher gives its distribution along the student's tokens.

A student trained only on the teacher's tokens never sees the consequences of its own mistakes. In the last steps of
training it therefore decodes some windows greedily, with its current weights, and is trained on the teacher's
distribution along its own tokens (Agarwal et al. 2024, arXiv 2306.13649). Pseudo-labels do not apply to these
sequences, so they have no cross-entropy.
"""

import torch

from whisperstill.decode.generate.batch_scheduler import DecodeRequest, generate
from whisperstill.decode.generate.logit_filter import LogitFilter
from whisperstill.distill.batch import OnPolicyBatch, TokenBatch
from whisperstill.model.whisper import Whisper
from whisperstill.units import MAX_NEW_TOKENS

MAX_EXTRA_TOKENS = 16
"""Tokens the student may generate beyond the length of the label: enough to learn to stop, too few for long loops."""


def generate_on_policy(student: Whisper, batch: OnPolicyBatch, logit_filter: LogitFilter) -> TokenBatch:
    """The batch with the student's transcripts as decoder input and targets."""
    # 1. Greedy decoding, each window to a limit of its own.
    was_training = student.training
    student.eval()
    start_tokens = torch.tensor(batch.start_tokens)
    label_lengths = [len(example.label.tokens) for example in batch.examples]
    token_limits = [min(MAX_NEW_TOKENS, length + MAX_EXTRA_TOKENS) for length in label_lengths]
    states = batch.encoder_states.to(student.device, student.dtype)
    with torch.no_grad():
        requests = [
            DecodeRequest(window_states, tuple(tokens), max_new_tokens=limit)
            for window_states, tokens, limit in zip(states, start_tokens.tolist(), token_limits, strict=True)
        ]
        results = generate(student, logit_filter, requests)
    student.train(was_training)
    # 2. Sequences: start tokens, transcript, and the end token unless the limit was reached.
    end_of_text, prefix_length = logit_filter.vocabulary.end_of_text, start_tokens.shape[1] - 1
    sequences = [
        [*start, *result.tokens, *([end_of_text] if result.ended else [])]
        for start, result in zip(batch.start_tokens, results, strict=True)
    ]
    # 3. All tokens after the start tokens are in the KL loss.
    loss_mask = torch.tensor(
        [position >= prefix_length for sequence in sequences for position in range(len(sequence) - 1)]
    )
    return TokenBatch(
        batch.examples,
        windows_encoded=batch.windows_encoded,
        decoder_tokens=len(loss_mask),
        encoder_states=batch.encoder_states,
        lengths=tuple(len(sequence) - 1 for sequence in sequences),
        decoder_ids=torch.tensor([token for sequence in sequences for token in sequence[:-1]]),
        target_ids=torch.tensor([token for sequence in sequences for token in sequence[1:]]),
        loss_mask=loss_mask,
        kl_mask=loss_mask,
        token_weights=torch.ones(len(loss_mask)),
        stored=None,
    )
