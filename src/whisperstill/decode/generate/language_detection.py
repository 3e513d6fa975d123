"""The language of a window: as requested, else the checkpoint's default, else detected."""

import torch
from jaxtyping import Float
from torch import Tensor

from whisperstill.errors import SettingsError
from whisperstill.model.whisper import Whisper
from whisperstill.text.languages import language_code
from whisperstill.text.vocabulary import Vocabulary


def resolve_language(requested: str | None, default: str | None, vocabulary: Vocabulary, source: str) -> str | None:
    """ISO 639-1 code of the language to decode; None if it has to be detected.

    Raises `SettingsError`, naming the model `source`, for a language that the vocabulary does not have.
    """
    if not vocabulary.multilingual:
        if requested is not None and language_code(requested) != "en":
            raise SettingsError(f"{source} is English-only, got language {requested}; use a multilingual model")
        return "en"
    language = requested or default
    if language is None:
        return None
    vocabulary.language_token(language)
    return language_code(language)


@torch.inference_mode()
def detect_languages(
    network: Whisper, encoder_states: Float[Tensor, "batch positions width"], vocabulary: Vocabulary
) -> list[tuple[str, float]]:
    """The most probable language of each window and its probability among all languages.

    The language token is predicted after `<|startoftranscript|>`. ("en", 1) if the vocabulary is English-only.
    """
    if not vocabulary.multilingual:
        return [("en", 1.0)] * len(encoder_states)
    sot_tokens = torch.full((len(encoder_states), 1), vocabulary.start_of_transcript, device=network.device)
    position = torch.zeros(len(encoder_states), dtype=torch.long, device=network.device)
    hidden = network.decoder(sot_tokens, position, network.decoder.teacher_forced(encoder_states))[:, 0]
    codes = list(vocabulary.languages)
    language_tokens = torch.tensor([vocabulary.languages[code] for code in codes], device=network.device)
    probabilities, indices = network.decoder.logits(hidden)[:, language_tokens].softmax(-1).max(-1)
    return [
        (codes[index], probability) for index, probability in zip(indices.tolist(), probabilities.tolist(), strict=True)
    ]
