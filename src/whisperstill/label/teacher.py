"""The teacher and its one visit to a window.

Everything a student needs from the teacher is computed while it labels: the encoder's states, and the distribution
at every token of its own greedy output. Nothing later runs the teacher's encoder again; `windows_encoded` counts
its visits so that a report can prove it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from whisperstill.decode.generate.token_stats import DecodingResult
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.label.teacher_forcing import teacher_force
from whisperstill.model.checkpoints import Checkpoint


@dataclass(frozen=True, slots=True)
class TeacherOutput:
    """What one visit to one window gave."""

    language: str
    result: DecodingResult
    encoder_states: Float[Tensor, "positions width"]


class Teacher(WhisperModel):
    """A recogniser that labels: it observes while it decodes, and counts what its encoder reads."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
        timestamps: bool = False,
        task: str = "transcribe",
        use_references: bool = False,
    ) -> None:
        """`reads`: it does not write transcripts, but reads those that there are."""
        super().__init__(checkpoint, device=device, dtype=dtype)
        self.checkpoint = checkpoint
        self.timestamps = timestamps
        self.task = task
        self.use_references = use_references
        self.windows_encoded = 0

    def encode(self, waveforms: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch positions width"]:
        """Encoder states of 30-second windows. The only place where the teacher's encoder runs."""
        self.windows_encoded += len(waveforms)
        return super().encode(waveforms)

    def label_batch(
        self,
        waveforms: Float[Tensor, "batch samples"],
        languages: Sequence[str | None],
        *,
        top_k: int,
        max_new_tokens: int,
        references: Sequence[str] = (),
    ) -> list[TeacherOutput]:
        """Label windows: encode once, decode greedily or read the `texts`, observe.

        Windows of unknown language (None) are decoded in the language the teacher detects. Raises `SettingsError`
        when an English-only teacher is handed another language.
        """
        encoder_states = self.encode(waveforms)
        resolved_languages = self.resolve_languages(encoder_states, languages)
        if self.use_references:
            results = teacher_force(
                self,
                encoder_states,
                resolved_languages,
                references,
                task=self.task,
                top_k=top_k,
                max_new_tokens=max_new_tokens,
            )
        else:
            transcripts = self.decode(
                encoder_states,
                resolved_languages,
                task=self.task,
                timestamps=self.timestamps,
                max_new_tokens=max_new_tokens,
                top_k=top_k,
            )
            results = [transcript.result for transcript in transcripts]
        return [
            TeacherOutput(language, result, window_states.cpu())
            for language, result, window_states in zip(resolved_languages, results, encoder_states, strict=True)
        ]
