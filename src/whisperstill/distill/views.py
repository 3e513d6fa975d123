"""Views of windows: heard changed, with the teacher's answer for what is then heard.

A teacher that answers for every view anew is patient (Beyer et al. 2022, arXiv 2106.05237) and costs an encoder and a
forced decoder each time; here each view serves for some epochs, from disk. Its tokens stay those that were labelled
(and filtered): what the teacher is asked anew is how sure it is of each of them now.

The first `uses` epochs hear what was labelled. After that the windows are gone through in blocks that fit the disk,
each block `uses` times before the next: a view is made once, and older ones make room. All is drawn from (seed,
generation, window): a view that is lost is made again, the same to the last bit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from whisperstill.audio.augment import Noises, change_speed, hide
from whisperstill.audio.mel import log_mel, pad_or_trim
from whisperstill.corpus.waveform import window_waveform
from whisperstill.distill.examples import Drawing, Example, batches, compose
from whisperstill.files import whole
from whisperstill.model.whisper import Whisper
from whisperstill.records.augmentation import Augmentation
from whisperstill.records.random import rng
from whisperstill.text.vocabulary import Vocabulary
from whisperstill.units import SAMPLE_RATE, WINDOW_SECONDS


@dataclass(frozen=True, slots=True)
class Heard:
    """A view, and what the teacher says of it."""

    states: Tensor
    """`[positions, width]`, bf16."""
    hidden: Tensor
    """The teacher's last hidden states at the window's tokens `[steps, width]`, bf16."""
    encoded: bool
    """Whether the encoder was asked: False for one from disk."""


class Views:
    """Makes views and keeps those that will serve again. For one reader thread of each process."""

    def __init__(
        self,
        directory: Path,
        teacher: Whisper,
        vocabulary: Vocabulary,
        augmentation: Augmentation,
        seed: int,
        processes: int = 1,
    ) -> None:
        """`processes` share the directory and the disk; views of another teacher, seed or augmentation belong into
        another one. Raises `SettingsError` for noises that are not there."""
        self.augmentation = augmentation
        self._directory, self._teacher, self._vocabulary, self._seed = directory, teacher, vocabulary, seed
        self._noises = Noises(augmentation.noises) if augmentation.noisy else None
        self._capacity = max(1, int(augmentation.disk * 2**30 / (2 * teacher.dims.positions * teacher.dims.width)))
        self._mine = max(1, self._capacity // processes)
        if augmentation.uses > 1:
            directory.mkdir(parents=True, exist_ok=True)
        self._kept = sorted(directory.glob("*.safetensors"), key=lambda path: path.stat().st_mtime_ns)

    def view(self, example: Example, epoch: int) -> Heard | None:
        """What this epoch hears of a window; None for what was labelled."""
        generation = epoch // self.augmentation.uses
        window = example.labelled.window
        if not generation or rng(self._seed, generation, window.id, "changed").random() >= self.augmentation.share:
            return None
        path = self._directory / f"{window.id}-{generation}.safetensors"
        try:
            found = load_file(path)
            return Heard(found["states"], found["hidden"], False)
        except FileNotFoundError:  # not made yet, or made room for another
            pass
        made = self._make(example, generation)
        if self.augmentation.uses > 1:
            while len(self._kept) >= self._mine:
                self._kept.pop(0).unlink(missing_ok=True)
            with whole(path) as temporary:
                save_file({"states": made.states, "hidden": made.hidden}, temporary)
            self._kept.append(path)
        return made

    def plan(self, found: Sequence[Example], batch_size: int, epochs: int) -> Iterator[tuple[int, list[Example]]]:
        """The batches of all epochs: (epoch, examples). As many as without views, in an order that lets views serve."""
        uses = self.augmentation.uses
        size = max(1, self._capacity // batch_size) * batch_size
        for generation in range(-(-epochs // uses)):
            of_generation = range(generation * uses, min(epochs, (generation + 1) * uses))
            order, blocks = rng(self._seed, generation, "blocks").permutation(len(found)), [found]
            if generation:
                blocks = [[found[one] for one in order[at : at + size]] for at in range(0, len(order), size)]
            for block in blocks:
                for epoch in of_generation:
                    for batch in batches(block, batch_size, self._seed, epoch):
                        yield epoch, batch

    @torch.no_grad()
    def _make(self, example: Example, generation: int) -> Heard:
        teacher, labelled = self._teacher, example.labelled
        draw, asked = rng(self._seed, generation, labelled.window.id, "view"), self.augmentation
        sound = window_waveform(labelled.window)[: round(labelled.window.duration * SAMPLE_RATE)]
        if asked.speed and not labelled.timestamps:
            factor = 1 + asked.speed * (2 * draw.random() - 1)
            sound = change_speed(sound, max(factor, len(sound) / (WINDOW_SECONDS * SAMPLE_RATE)))
        if self._noises is not None and draw.random() < asked.noisy:
            snr = asked.lowest_snr + (asked.highest_snr - asked.lowest_snr) * draw.random()
            sound = self._noises.over(sound, snr, draw)
        mel = log_mel(torch.from_numpy(pad_or_trim(sound))[None].to(teacher.device), teacher.dims.mels)
        if asked.masks:
            hidden_behind = hide(mel[0].cpu().numpy(), len(sound) / SAMPLE_RATE, asked.masks, draw)
            mel = torch.from_numpy(hidden_behind)[None].to(teacher.device)
        states = teacher.encoder(mel)
        read = compose(example, self._vocabulary, Drawing(timestamp_probability=float(labelled.timestamps)), 0)
        tokens = torch.tensor(read.decoder_ids, device=teacher.device)
        hidden = teacher.decoder.packed(tokens, [len(tokens)], states)[-_steps(read.steps) :]
        return Heard(_kept(states[0]), _kept(hidden), True)


def _steps(steps: Sequence[int]) -> int:
    return sum(step >= 0 for step in steps)


def _kept(x: Tensor) -> Tensor:
    return x.to(device="cpu", dtype=torch.bfloat16).clone()
