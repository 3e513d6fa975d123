"""Greedy decoding of a batch of windows."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from whisperstill.decode.observed import Decoded, Record
from whisperstill.decode.rules import History, Rules
from whisperstill.model.cache import Slots
from whisperstill.model.whisper import Whisper
from whisperstill.text.vocabulary import Vocabulary
from whisperstill.units import MAX_NEW_TOKENS

COMPACT_BELOW = 0.75
"""Rows still running, as a share of those held, below which finished rows are dropped from the slots."""


@torch.inference_mode()
def greedy(
    network: Whisper,
    states: Float[Tensor, "batch positions width"],
    start: Int[Tensor, "batch prompt"],
    rules: Rules,
    *,
    max_new_tokens: int = MAX_NEW_TOKENS,
    top: int = 0,
) -> list[Decoded]:
    """The most probable token at each step, until <|endoftext|> or `max_new_tokens`.

    `start` holds the tokens before the transcript: an optional prompt, then <|startoftranscript|> and what follows
    it; all rows have the same length. With `top = k > 0` entropy, top-k, log-sum-exps and hidden states are
    recorded as well.
    """
    vocabulary = rules.vocabulary
    batch, prompt = start.shape
    limit = max(1, min(max_new_tokens, network.dims.tokens - prompt))
    slots: Slots = network.decoder.slots(states, prompt + limit)
    last, silence = prefill(network, start, slots, vocabulary)
    record = Record(batch, limit, top, network)
    output = network.decoder.output(batch)
    length = torch.full((batch,), limit, dtype=torch.long)
    ended = torch.zeros(batch, dtype=torch.bool)
    history = History.empty(batch, network.device)
    rows = torch.arange(batch, device=network.device)  # which window each slot holds
    running = torch.ones(batch, dtype=torch.bool, device=network.device)
    position = torch.full((batch,), prompt, device=network.device)
    for step in range(limit):
        logits = output(last)
        # Rows that are over and not yet dropped are noted, too: beyond their length, where nobody looks.
        record.distribution(rows, step, logits, last)
        tokens = rules.apply(logits, history).argmax(-1)
        record.choice(rows, step, logits, tokens)
        history.add(tokens, vocabulary.timestamp_begin)
        over = running & (tokens == vocabulary.end_of_text)
        if over.any():
            done = rows[over].cpu()
            length[done], ended[done] = step + 1, True
            running = running & ~over
            left = int(running.sum())
            if left == 0:
                break
            if left <= COMPACT_BELOW * len(rows):
                kept = slots.keep(running.nonzero()[:, 0])
                history.keep(kept)
                rows, tokens, position, running = rows[kept], tokens[kept], position[kept], running[kept]
        if step + 1 < limit:
            last = network.decoder(tokens[:, None], position, slots)[:, 0]
            position = position + 1

    return record.decoded(length, ended, silence)


def prefill(
    network: Whisper, start: Int[Tensor, "batch prompt"], slots: Slots, vocabulary: Vocabulary
) -> tuple[Float[Tensor, "batch width"], Float[Tensor, "batch"]]:
    """Read what stands before the transcript: the last hidden state, and the probability that nothing is said."""
    hidden = network.decoder(start, torch.zeros(len(start), dtype=torch.long, device=start.device), slots)
    begin = int((start[0] == vocabulary.start_of_transcript).nonzero()[-1])
    silence = network.decoder.logits(hidden[:, begin]).softmax(-1)[:, vocabulary.no_speech]
    return hidden[:, -1], silence


@torch.inference_mode()
def detect_languages(
    network: Whisper, states: Float[Tensor, "batch positions width"], rules: Rules
) -> list[tuple[str, float]]:
    """The most probable language of each window and its probability among all languages."""
    vocabulary = rules.vocabulary
    if not vocabulary.multilingual:
        return [("en", 1.0)] * len(states)
    start = torch.full((len(states), 1), vocabulary.start_of_transcript, device=network.device)
    position = torch.zeros(len(states), dtype=torch.long, device=network.device)
    hidden = network.decoder(start, position, network.decoder.forced(states))[:, 0]
    codes = list(vocabulary.languages)
    ids = torch.tensor([vocabulary.languages[code] for code in codes], device=network.device)
    probability, best = network.decoder.logits(hidden)[:, ids].softmax(-1).max(-1)
    return [(codes[index], p) for index, p in zip(best.tolist(), probability.tolist(), strict=True)]
