"""The teacher labels a batch of windows in one pass: encoder states, tokens and token statistics.

These are everything a student is trained on, so nothing later runs the teacher's encoder again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from whisperstill.decode.generate.token_stats import DecodingResult
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.label.settings import LabelSettings
from whisperstill.label.teacher_forcing import teacher_force


@dataclass(frozen=True, slots=True)
class TeacherOutput:
    """The teacher's output for one window, on the CPU."""

    language: str
    result: DecodingResult
    encoder_states: Float[Tensor, "positions width"]


def label_batch(
    model: WhisperModel,
    settings: LabelSettings,
    waveforms: Float[Tensor, "batch samples"],
    languages: Sequence[str | None],
    references: Sequence[str] = (),
) -> list[TeacherOutput]:
    """Label 30-second windows, by greedy decoding or by teacher forcing along `references`, as `label_source` says.

    The encoder runs once per window. The language of a window is detected where it is None. Raises `SettingsError` for
    a language the teacher does not have.
    """
    encoder_states = model.encode(waveforms)
    codes = model.resolve_languages(encoder_states, languages)
    top_k, max_new_tokens = max(1, settings.top_k), settings.max_new_tokens
    if settings.label_source == "reference":
        results = teacher_force(model, encoder_states, codes, references, top_k=top_k, max_new_tokens=max_new_tokens)
    else:
        transcripts = model.decode(
            encoder_states, codes, timestamps=settings.timestamps, max_new_tokens=max_new_tokens, top_k=top_k
        )
        results = [transcript.result for transcript in transcripts]
    return [
        TeacherOutput(language, result, window_states.cpu())
        for language, result, window_states in zip(codes, results, encoder_states, strict=True)
    ]
