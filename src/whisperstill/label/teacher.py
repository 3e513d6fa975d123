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

from whisperstill.decode.observed import Decoded
from whisperstill.decode.recogniser import Recogniser
from whisperstill.label.reading import read
from whisperstill.model.checkpoints import Checkpoint


@dataclass(frozen=True, slots=True)
class Visit:
    """What one visit to one window gave."""

    language: str
    decoded: Decoded
    states: Float[Tensor, "positions width"]


class Teacher(Recogniser):
    """A recogniser that labels: it observes while it decodes, and counts what its encoder reads."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
        timestamps: bool = False,
        task: str = "transcribe",
        reads: bool = False,
    ) -> None:
        """`reads`: it does not write transcripts, but reads those that there are."""
        super().__init__(checkpoint, device=device, dtype=dtype)
        self.checkpoint = checkpoint
        self.timestamps = timestamps
        self.task = task
        self.reads = reads
        self.windows_encoded = 0

    def encode(self, waveforms: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch positions width"]:
        """Encoder states of 30-second windows. The only place where the teacher's encoder runs."""
        self.windows_encoded += len(waveforms)
        return super().encode(waveforms)

    def visit(
        self,
        waveforms: Float[Tensor, "batch samples"],
        languages: Sequence[str | None],
        *,
        top: int,
        max_new_tokens: int,
        texts: Sequence[str] = (),
    ) -> list[Visit]:
        """Label windows: encode once, decode greedily or read the `texts`, observe.

        Windows of unknown language (None) are decoded in the language the teacher detects. Raises `SettingsError`
        when an English-only teacher is handed another language.
        """
        states = self.encode(waveforms)
        spoken = self.languages(states, languages)
        if self.reads:
            found = read(self, states, spoken, texts, task=self.task, top=top, max_new_tokens=max_new_tokens)
        else:
            heard = self.decode(
                states,
                spoken,
                task=self.task,
                timestamps=self.timestamps,
                max_new_tokens=max_new_tokens,
                top=top,
            )
            found = [one.decoded for one in heard]
        return [Visit(language, one, row.cpu()) for language, one, row in zip(spoken, found, states, strict=True)]
