"""The teacher labels a batch of windows in one pass: encoder states, tokens and token statistics.

These are everything a student is trained on, so nothing later runs the teacher's encoder again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from whisperstill.decode.generate.token_stats import DecodingResult
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.label.teacher_forcing import teacher_force


@dataclass(frozen=True, slots=True)
class TeacherOutput:
    """The teacher's output for one window, on the CPU."""

    language: str
    result: DecodingResult
    encoder_states: Float[Tensor, "positions width"]


class Teacher:
    """A Whisper model that labels windows by greedy decoding, or by teacher forcing along reference transcripts."""

    def __init__(self, model: WhisperModel, *, timestamps: bool = False, use_references: bool = False) -> None:
        self.model = model
        self.timestamps = timestamps
        self.use_references = use_references

    def label_batch(
        self,
        waveforms: Float[Tensor, "batch samples"],
        languages: Sequence[str | None],
        *,
        top_k: int,
        max_new_tokens: int,
        references: Sequence[str] = (),
    ) -> list[TeacherOutput]:
        """Label 30-second windows; the encoder runs once per window.

        The language of a window is detected where it is None. `references` are the transcripts for teacher forcing.
        Raises `SettingsError` for a language the teacher does not have.
        """
        encoder_states = self.model.encode(waveforms)
        codes = self.model.resolve_languages(encoder_states, languages)
        if self.use_references:
            results = teacher_force(
                self.model, encoder_states, codes, references, top_k=top_k, max_new_tokens=max_new_tokens
            )
        else:
            transcripts = self.model.decode(
                encoder_states, codes, timestamps=self.timestamps, max_new_tokens=max_new_tokens, top_k=top_k
            )
            results = [transcript.result for transcript in transcripts]
        return [
            TeacherOutput(language, result, window_states.cpu())
            for language, result, window_states in zip(codes, results, encoder_states, strict=True)
        ]
