"""Which language a window is in."""

import torch
from jaxtyping import Float
from torch import Tensor

from whisperstill.model.whisper import Whisper
from whisperstill.text.vocabulary import Vocabulary


@torch.inference_mode()
def detect_languages(
    network: Whisper, states: Float[Tensor, "batch positions width"], vocabulary: Vocabulary
) -> list[tuple[str, float]]:
    """The most probable language of each window and its probability among all languages; ("en", 1) without choice."""
    if not vocabulary.multilingual:
        return [("en", 1.0)] * len(states)
    start = torch.full((len(states), 1), vocabulary.start_of_transcript, device=network.device)
    position = torch.zeros(len(states), dtype=torch.long, device=network.device)
    hidden = network.decoder(start, position, network.decoder.forced(states))[:, 0]
    codes = list(vocabulary.languages)
    ids = torch.tensor([vocabulary.languages[code] for code in codes], device=network.device)
    probability, best = network.decoder.logits(hidden)[:, ids].softmax(-1).max(-1)
    return [(codes[index], p) for index, p in zip(best.tolist(), probability.tolist(), strict=True)]
