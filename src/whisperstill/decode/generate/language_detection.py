"""Which language a window is in."""

import torch
from jaxtyping import Float
from torch import Tensor

from whisperstill.model.whisper import Whisper
from whisperstill.text.vocabulary import Vocabulary


@torch.inference_mode()
def detect_languages(
    network: Whisper, encoder_states: Float[Tensor, "batch positions width"], vocabulary: Vocabulary
) -> list[tuple[str, float]]:
    """The most probable language of each window and its probability among all languages; ("en", 1) without choice."""
    if not vocabulary.multilingual:
        return [("en", 1.0)] * len(encoder_states)
    sot_tokens = torch.full((len(encoder_states), 1), vocabulary.start_of_transcript, device=network.device)
    position = torch.zeros(len(encoder_states), dtype=torch.long, device=network.device)
    hidden = network.decoder(sot_tokens, position, network.decoder.teacher_forced(encoder_states))[:, 0]
    codes = list(vocabulary.languages)
    language_token_ids = torch.tensor([vocabulary.languages[code] for code in codes], device=network.device)
    probability, best_index = network.decoder.logits(hidden)[:, language_token_ids].softmax(-1).max(-1)
    return [
        (codes[index], language_prob)
        for index, language_prob in zip(best_index.tolist(), probability.tolist(), strict=True)
    ]
