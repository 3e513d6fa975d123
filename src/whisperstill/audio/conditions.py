"""Acoustic conditions for robustness tests, by name: `white@10`, `telephone`, `opus@6`, `kitchen.wav@0`.

A name is a kind and, after `@`, its level: for noise the signal-to-noise ratio in dB over the whole clip. A range
`white@40:-10:-5` stands for all its levels. `CONDITION_KINDS` lists the kinds. Distil-Whisper (Gandhi et al. 2023,
arXiv 2311.00430) was evaluated under white and pub noise over LibriSpeech, from 40 to -10 dB; pub noise is `babble`
here, or a recording.

Conditions to be compared should differ in level alone. All randomness comes from the generator passed in: generators
with the same key for every level give the same noise, louder or quieter, and a curve without jitter.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path

import numpy as np

from whisperstill.audio import channel_effects as channel, reverberation as rooms
from whisperstill.audio.levels import Block, Waveform
from whisperstill.audio.noise import NoiseSampler, babble, mix_at_snr
from whisperstill.errors import SettingsError

NUM_BABBLE_SPEAKERS = 6
"""Utterances in a babble in which no single one is intelligible; `Condition.apply` mixes as many as it is given."""
MAX_LEVEL_DB = 100.0
"""Largest ratio or gain accepted; more is a typing mistake."""

_NUMBER_PATTERN = r"[+-]?\d{1,9}(?:\.\d{1,9})?"


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition, made by `parse_condition`; conditions of equal names are equal."""

    name: str
    """Kind, `@`, level, each in its shortest form."""
    kind: str
    """One of `CONDITION_KINDS`, or the path of a file or folder of noise."""
    level: float | None
    """dB, seconds, kbit/s or %, depending on the kind; None for kinds without a level."""

    @property
    def needs_other_utterances(self) -> bool:
        return self.kind == "babble"

    def describe(self) -> str:
        """In words: "white noise at 10 dB"."""
        return _kind_spec(self.kind).description.format(level=self.level, noise=Path(self.kind).name)

    def noise_recordings_sha256(self) -> str:
        """Hash of all recordings the noise is drawn from; empty for named kinds."""
        return _noise_sampler(self.kind).sha256() if self.kind not in _KINDS else ""

    def apply(self, waveform: Waveform, rng: np.random.Generator, other_utterances: Sequence[Block] = ()) -> Waveform:
        """The waveform (16 kHz, full scale 1) under this condition: a new array of equal length, words in place.

        `other_utterances` make up a `babble`, of any number (`NUM_BABBLE_SPEAKERS` are enough) and lengths. Silence
        gets no noise. Only `clip` clips: the result may exceed full scale. Raises `SettingsError` for a babble without
        utterances, `AudioError` for noise that cannot be read, `MissingExtraError` for reverberation without the extra.
        """
        if not len(waveform):
            return waveform.copy()
        level = self.level or 0.0
        transform = _kind_spec(self.kind).transform
        if transform is not None:
            return transform(waveform, level, rng)
        if self.needs_other_utterances:
            return mix_at_snr(waveform, babble(other_utterances, len(waveform), rng), level)
        return _noise_sampler(self.kind).add_to(waveform, level, rng)


@dataclass(frozen=True, slots=True)
class _Kind:
    description: str
    transform: channel.Transform | None = None  # None: noise is mixed in
    unit: str | None = None
    min_level: float = -MAX_LEVEL_DB
    max_level: float = MAX_LEVEL_DB
    allowed_levels: tuple[float, ...] = ()
    example_level: str = "10"


_RECORDED_NOISE = _Kind("noise of {noise} at {level:g} dB", unit="dB")
_KINDS = {
    "clean": _Kind("clean", lambda x, _, rng: x.copy()),
    "white": _Kind("white noise at {level:g} dB", unit="dB"),
    "pink": _Kind("pink noise at {level:g} dB", unit="dB"),
    "babble": _Kind("babble of other speakers at {level:g} dB", unit="dB"),
    "reverb": _Kind(
        "room with {level:g} s of reverberation",
        rooms.reverberate,
        "s",
        rooms.MIN_RT60_SECONDS,
        rooms.MAX_RT60_SECONDS,
        example_level="0.6",
    ),
    "telephone": _Kind(  # fixed line: ITU-T G.711 in a band like that of G.712
        "telephone band, mu-law", channel.codec("wav", "pcm_mulaw", channel.TELEPHONE_RATE_HZ, band_pass=True)
    ),
    "mulaw": _Kind("mu-law at 8 kHz", channel.codec("wav", "pcm_mulaw", channel.TELEPHONE_RATE_HZ)),
    "alaw": _Kind("A-law at 8 kHz", channel.codec("wav", "pcm_alaw", channel.TELEPHONE_RATE_HZ)),
    "opus": _Kind(
        "Opus at {level:g} kbit/s", channel.codec("ogg", "libopus"), "kbit/s", *channel.OPUS_BITRATE_RANGE_KBPS
    ),
    "mp3": _Kind(  # LAME at a constant bit rate
        "MP3 at {level:g} kbit/s",
        channel.codec("mp3", "libmp3lame"),
        "kbit/s",
        allowed_levels=channel.MP3_BITRATES_KBPS,
        example_level="16",
    ),
    "loss": _Kind("{level:g} % of the packets lost", channel.lose_packets, "%", 0, 100),
    "gain": _Kind("gain of {level:g} dB", lambda x, by, _: channel.amplify(x, by), "dB", example_level="-20"),
    "clip": _Kind("clipped {level:g} dB below the peak", lambda x, by, _: channel.clip(x, by), "dB", 0),
}
CONDITION_KINDS = tuple(_KINDS)
"""Named kinds; a path of noise is a kind, too."""


def parse_condition(name: str) -> Condition:
    """The condition of a name; an empty name is `clean`, and paths are relative to the working directory.

    Raises `SettingsError` for an unknown kind or level, `MissingExtraError` for reverberation without the extra.
    """
    kind, level = _split_level(name)
    spec = _kind_spec(kind)
    if spec is _RECORDED_NOISE and not (kind and Path(kind).exists()):
        kinds = ", ".join(f"{known}@{entry.unit}" if entry.unit else known for known, entry in _KINDS.items())
        raise SettingsError(f"a condition must be {kinds}, or FILE@dB or FOLDER@dB of noise, got {name}")
    if spec.unit is None:
        if level is not None:
            raise SettingsError(f"{kind} takes no level, got {name}")
        return Condition(kind, kind, None)
    if level is None or not re.fullmatch(_NUMBER_PATTERN, level, re.ASCII):
        raise SettingsError(f"{kind} needs a level in {spec.unit} such as {kind}@{spec.example_level}, got {name}")
    value = float(level) + 0.0  # -0 is 0
    if spec.allowed_levels and value not in spec.allowed_levels:
        raise SettingsError(f"{kind} must be {', '.join(map(str, spec.allowed_levels))} {spec.unit}, got {name}")
    if not spec.allowed_levels and not spec.min_level <= value <= spec.max_level:
        raise SettingsError(f"{kind} must be {spec.min_level:g} to {spec.max_level:g} {spec.unit}, got {name}")
    if spec is _RECORDED_NOISE:
        _noise_sampler(kind)  # raises for a folder without audio
    if kind == "reverb":
        rooms.check_installed()
    return Condition(f"{kind}@{value:.10g}", kind, value)


def parse_conditions(names: Iterable[str]) -> tuple[Condition, ...]:
    """The conditions of these names, in order and without duplicates; a level may be a range `first:last:step`.

    Raises as `parse_condition`, and `SettingsError` for a range whose steps do not lead from `first` to `last`.
    """
    return tuple(dict.fromkeys(parse_condition(expanded) for name in names for expanded in _expand_range(name)))


def _split_level(name: str) -> tuple[str, str | None]:
    kind, separator, level = name.rpartition("@")
    return (kind, level) if separator else (name or "clean", None)


def _kind_spec(kind: str) -> _Kind:
    return _KINDS.get(kind, _RECORDED_NOISE)


def _expand_range(name: str) -> list[str]:
    """All names of a range; a name without a range unchanged."""
    kind, level = _split_level(name)
    if level is None or ":" not in level:
        return [name]
    match = re.fullmatch(f"({_NUMBER_PATTERN}):({_NUMBER_PATTERN}):({_NUMBER_PATTERN})", level, re.ASCII)
    if not match:
        raise SettingsError(f"a range of levels must be first:last:step such as white@40:-10:-5, got {name}")
    first, last, step = map(Decimal, match.groups())
    if not step or (last - first) % step or (last - first) / step < 0:
        raise SettingsError(f"whole steps must lead from the first level to the last, got {name}")
    return [f"{kind}@{first + step * index:f}" for index in range(int((last - first) / step) + 1)]


def _noise_sampler(kind: str) -> NoiseSampler:
    """Sampler of white noise, pink noise or a path. Raises `SettingsError` for a folder without audio."""
    return _cached_noise_sampler(kind if kind in _KINDS else str(Path(kind).absolute()))


@cache  # recorded noise is read once
def _cached_noise_sampler(name: str) -> NoiseSampler:
    return NoiseSampler([name])
