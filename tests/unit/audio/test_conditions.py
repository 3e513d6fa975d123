"""Each condition has its named effect and keeps words in place."""

import pickle
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile

from whisperstill.audio.channel_effects import BURST_RATIO, PACKET_SAMPLES
from whisperstill.audio.conditions import (
    CONDITION_KINDS,
    NUM_BABBLE_SPEAKERS,
    Condition,
    parse_condition,
    parse_conditions,
)
from whisperstill.audio.noise import pink_noise, white_noise
from whisperstill.audio.reverberation import NUM_ROOMS, room_impulse_response
from whisperstill.errors import MissingExtraError, SettingsError
from whisperstill.records.seeding import rng
from whisperstill.units import SAMPLE_RATE

needs_rooms = pytest.mark.skipif(find_spec("pyroomacoustics") is None, reason="no pyroomacoustics here")
LEVELS = {"reverb": "0.3", "opus": "6", "mp3": "16", "gain": "-20", "clip": "12", "loss": "50"}
WITHOUT = ("clean", "telephone", "mulaw", "alaw")
ALL = [
    pytest.param(name, marks=needs_rooms) if name.startswith("reverb") else name
    for name in (kind if kind in WITHOUT else f"{kind}@{LEVELS.get(kind, '10')}" for kind in CONDITION_KINDS)
]


def speech_like(seconds: float, seed: int = 0) -> np.ndarray:
    """Voiced syllables, four a second, of a pitch that moves, with some breath: peak 0.5."""
    draw = np.random.default_rng(seed)
    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    phase = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 0.7 * times + seed)) / SAMPLE_RATE
    voiced = sum(np.sin(n * phase) / n for n in range(1, 40))
    syllables = np.clip(np.sin(2 * np.pi * 2 * times + draw.uniform(0, 6)), 0, 1) ** 2
    sound = syllables * (voiced + 0.05 * draw.standard_normal(len(times)))
    waveform: np.ndarray = (0.5 * sound / np.abs(sound).max()).astype(np.float32)
    return waveform


SPEECH = speech_like(5.03)
OTHERS = [speech_like(1.0 + seed / 3, seed) * 10.0**-seed for seed in range(1, NUM_BABBLE_SPEAKERS)]


def under(name: str, sound: np.ndarray, seed: int = 0, others: Sequence[np.ndarray] = OTHERS) -> np.ndarray:
    return parse_condition(name).apply(sound, rng(seed, 0, "utterance", "condition"), others)


def power(sound: np.ndarray) -> float:
    return float(np.square(sound, dtype=np.float64).mean())


def ratio_db(sound: np.ndarray, error: np.ndarray) -> float:
    return float(10 * np.log10(power(sound) / power(error)))


def band_power(sound: np.ndarray, low: float, high: float) -> float:
    spectrum = np.square(np.abs(np.fft.rfft(sound * np.hanning(len(sound)))))
    frequencies = np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE)
    return float(spectrum[(frequencies >= low) & (frequencies < high)].sum())


def lag(sound: np.ndarray, later: np.ndarray, most: int = 1600) -> int:
    """Delay of `later` in samples, from the maximum of the cross-correlation."""
    inner, size = sound[most:-most].astype(np.float64), 2 ** len(sound).bit_length()
    spectrum = np.fft.rfft(later, size) * np.conj(np.fft.rfft(inner, size))
    correlation = np.fft.irfft(spectrum, size)[: 2 * most]  # without wrap-around: the shifts fit into `later`
    return int(np.argmax(correlation)) - most


@pytest.fixture
def noise_file(tmp_path: Path) -> Path:
    """0.7 s of recorded noise at 8 kHz, shorter than the speech."""
    noise = 0.2 * pink_noise(5600, np.random.default_rng(9))
    (tmp_path / "kitchen").mkdir()
    soundfile.write(tmp_path / "kitchen" / "tap.wav", noise, 8000)
    return tmp_path / "kitchen" / "tap.wav"


@pytest.mark.parametrize("name", ALL)
def test_every_condition_keeps_length_and_place_and_is_finite(name: str) -> None:
    augmented = under(name, SPEECH)
    assert augmented.dtype == np.float32
    assert len(augmented) == len(SPEECH)
    assert np.isfinite(augmented).all()
    assert augmented is not SPEECH
    assert abs(lag(SPEECH, augmented)) <= (48 if name.startswith("reverb") else 16)


@pytest.mark.parametrize("name", ALL)
def test_the_same_key_gives_the_same_sound(name: str) -> None:
    first = under(name, SPEECH)
    np.testing.assert_array_equal(first, under(name, SPEECH))
    drawn = name.partition("@")[0] in ("white", "pink", "babble", "reverb", "loss")
    assert np.array_equal(first, under(name, SPEECH, seed=1)) != drawn


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("samples", [0, 1, 2, 333])
def test_very_short_waveforms_and_silence(name: str, samples: int) -> None:
    for sound in (SPEECH[2000 : 2000 + samples], np.zeros(samples, np.float32)):
        augmented = under(name, sound)
        assert len(augmented) == samples
        assert np.isfinite(augmented).all()
        assert np.abs(augmented).max(initial=0.0) < (1e-3 if not sound.any() else 20)


@pytest.mark.parametrize("kind", ["white", "pink", "babble", "recorded", "folder"])
@pytest.mark.parametrize("level", [-10.0, 0.0, 12.5, 40.0])
def test_noise_has_the_requested_snr(kind: str, level: float, noise_file: Path) -> None:
    kind = {"recorded": str(noise_file), "folder": str(noise_file.parent)}.get(kind, kind)
    augmented = under(f"{kind}@{level}", SPEECH)
    assert ratio_db(SPEECH, augmented.astype(np.float64) - SPEECH) == pytest.approx(level, abs=0.1)


def test_loud_noise_is_not_clipped() -> None:
    assert np.abs(under("white@-10", SPEECH)).max() > 1


def test_one_key_gives_one_noise_at_every_level() -> None:
    loud, quiet = (under(name, SPEECH) - SPEECH for name in ("white@0", "white@20"))
    np.testing.assert_allclose(loud, 10 * quiet, atol=1e-5)


def test_babble_has_all_voices_at_equal_power() -> None:
    tones = [
        (10.0**-n * np.sin(2 * np.pi * 200 * (n + 1) * np.arange(8000 * (n + 1)) / SAMPLE_RATE)).astype(np.float32)
        for n in range(4)
    ]
    added = under("babble@0", SPEECH, others=tones) - SPEECH
    powers = [band_power(added, 200 * (n + 1) - 50, 200 * (n + 1) + 50) for n in range(4)]
    assert powers == pytest.approx([np.mean(powers)] * 4, rel=0.05)


def test_babble_without_utterances() -> None:
    assert [condition.needs_other_utterances for condition in parse_conditions(["babble@0", "white@0"])] == [
        True,
        False,
    ]
    for others in ([], [SPEECH[:0]]):
        with pytest.raises(SettingsError, match="babble needs other utterances"):
            under("babble@0", SPEECH, others=others)
    silent = under("babble@0", SPEECH, others=[np.zeros(9, np.float32)])
    np.testing.assert_array_equal(silent, SPEECH)


def test_telephone_keeps_its_band_only() -> None:
    sound = (0.1 * white_noise(5 * SAMPLE_RATE, np.random.default_rng(0))).astype(np.float32)
    for low, high in ((0, 250), (3600, 8000)):
        lost = [10 * np.log10(band_power(sound, low, high) / band_power(under(name, sound), low, high)) for name in
                ("telephone", "clean")]  # fmt: skip
        assert lost[0] > 20
        assert lost[1] == pytest.approx(0, abs=1e-6)
    power_ratio = band_power(under("telephone", sound), 400, 3300) / band_power(sound, 400, 3300)
    assert 10 * np.log10(power_ratio) == pytest.approx(0, abs=0.2)
    assert band_power(under("mulaw", sound), 0, 250) / band_power(sound, 0, 250) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("name", ["mulaw", "alaw"])
def test_companding_adds_noise_in_proportion(name: str) -> None:
    """Linear samples of 8 bits would have 43 dB for the loud sound and 23 dB for the quiet one."""
    narrow = np.random.default_rng(0).standard_normal(3 * SAMPLE_RATE)
    spectrum = np.fft.rfft(narrow)
    spectrum[np.fft.rfftfreq(len(narrow), 1 / SAMPLE_RATE) > 3000] = 0
    sound = np.fft.irfft(spectrum)
    for rms in (0.2, 0.02):
        scaled = (sound * rms / np.sqrt(power(sound))).astype(np.float32)
        error = under(name, scaled)[800:-800] - scaled[800:-800]
        assert ratio_db(scaled, error) == pytest.approx(38, abs=2)


def test_companded_samples_are_few() -> None:
    """At the places of the samples of 8 kHz, the sound has a value of the table (up to the resampler's ripple)."""
    times = np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE
    sound = (0.9 * np.sin(2 * np.pi * 0.5 * times)).astype(np.float32)  # so slow that the table's steps stay apart
    steps = np.abs(np.diff(under("mulaw", sound)[::2]))
    assert np.mean(steps < 1e-3) > 0.5 > np.mean(np.abs(np.diff(sound[::2])) == 0)
    assert steps.max() > 0.02  # 1024 / 32768, the table's widest step


def test_a_sound_beyond_full_scale_is_not_clipped_by_a_codec() -> None:
    coded = under("mulaw", 4 * SPEECH)
    assert ratio_db(4 * SPEECH, coded - 4 * SPEECH) > 15
    assert np.abs(coded).max() == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize("name", ["opus@6", "opus@64", "mp3@8", "mp3@64"])
def test_codecs_keep_the_place_and_the_end(name: str) -> None:
    coded = under(name, SPEECH)
    assert abs(lag(SPEECH, coded)) <= SAMPLE_RATE // 1000
    end = slice(-SAMPLE_RATE // 2, None)
    assert power(coded[end]) == pytest.approx(power(SPEECH[end]), rel=0.4)


@pytest.mark.parametrize(("poor", "rich"), [("opus@6", "opus@64"), ("mp3@8", "mp3@64")])
def test_few_bits_leave_no_high_pitches(poor: str, rich: str) -> None:
    before, less, more = (band_power(under(name, SPEECH), 5000, 7000) for name in ("clean", poor, rich))
    assert 10 * np.log10(less / before) < -20
    assert 10 * np.log10(more / before) == pytest.approx(0, abs=3)


def test_the_measured_lag_can_fail() -> None:
    assert lag(SPEECH, np.roll(SPEECH, 104)) == 104  # Opus's uncorrected delay


@pytest.mark.parametrize("percent", [0, 10, 50, 100])
def test_loss_rate_and_burst_length(percent: int) -> None:
    sound = np.ones(4000 * PACKET_SAMPLES - 7, np.float32)
    received = under(f"loss@{percent}", sound)
    packets = np.pad(received, (0, 7), mode="edge").reshape(-1, PACKET_SAMPLES)
    lost = packets[:, 0] == 0
    np.testing.assert_array_equal(
        packets, np.repeat(~lost, PACKET_SAMPLES).reshape(packets.shape)
    )  # complete packets are lost
    assert lost.mean() == pytest.approx(percent / 100, abs=0.03 if 0 < percent < 100 else 0)
    if 0 < percent < 100:
        bursts = int(lost[0]) + np.count_nonzero(np.diff(lost.astype(int)) == 1)
        assert lost.sum() / bursts == pytest.approx(BURST_RATIO / (1 - percent / 100), rel=0.15)


def test_gain_and_clipping() -> None:
    np.testing.assert_allclose(under("gain@-20", SPEECH), 0.1 * SPEECH, rtol=1e-6)
    np.testing.assert_allclose(under("gain@20", SPEECH), 10 * SPEECH, rtol=1e-6)
    most = np.abs(SPEECH).max() * 10 ** (-12 / 20)
    clipped = under("clip@12", SPEECH)
    assert np.abs(clipped).max() == pytest.approx(most)
    np.testing.assert_array_equal(clipped[np.abs(SPEECH) < 0.99 * most], SPEECH[np.abs(SPEECH) < 0.99 * most])
    np.testing.assert_array_equal(under("clip@0", SPEECH), SPEECH)
    np.testing.assert_array_equal(under("", SPEECH), SPEECH)


def decay_seconds(response: np.ndarray) -> float:
    """RT60 by Schroeder's backward integration, from the fall between −5 and −35 dB."""
    remaining = np.cumsum(np.square(response[::-1], dtype=np.float64))[::-1]
    fall = 10 * np.log10(remaining / remaining[0] + 1e-12)
    first, last = (int(np.argmax(fall < level)) for level in (-5, -35))
    return 60 / 30 * (last - first) / SAMPLE_RATE


@needs_rooms
@pytest.mark.parametrize("seconds", [0.2, 0.6])
def test_rooms_have_the_requested_reverberation_time(seconds: float) -> None:
    impulse = np.zeros(2 * SAMPLE_RATE, np.float32)
    impulse[0] = 1.0
    responses = [under(f"reverb@{seconds}", impulse, seed) for seed in range(6)]
    assert len({response.tobytes() for response in responses}) > 1  # not always the same room
    for response in responses:
        assert decay_seconds(response) == pytest.approx(seconds, rel=0.1)
        assert power(response) == pytest.approx(power(impulse), rel=1e-3)


@needs_rooms
def test_the_direct_sound_arrives_at_once() -> None:
    for number in range(NUM_ROOMS):
        response, lead = room_impulse_response(0.3, number)
        direct = np.abs(response[lead - 1 : lead + 2]).max()
        assert direct > 4 * np.abs(response[: lead - 8]).max()
        assert direct > 0.2 * np.abs(response).max()


def test_a_room_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    room_impulse_response.cache_clear()
    monkeypatch.setitem(sys.modules, "pyroomacoustics", None)
    for use in (lambda: parse_condition("reverb@0.6"), lambda: room_impulse_response(0.6, 0)):
        with pytest.raises(MissingExtraError, match=r"whisperstill\[rooms\]"):
            use()


KNOWN = (
    "a condition must be clean, white@dB, pink@dB, babble@dB, reverb@s, telephone, mulaw, alaw, opus@kbit/s, "
    "mp3@kbit/s, loss@%, gain@dB, clip@dB, or FILE@dB or FOLDER@dB of noise, got "
)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("whit@10", KNOWN + "whit@10"),
        ("@10", KNOWN + "@10"),
        ("White", KNOWN + "White"),
        ("no/such.wav@5", KNOWN + "no/such.wav@5"),
        ("telephone@8", "telephone takes no level, got telephone@8"),
        ("clean@", "clean takes no level, got clean@"),
        ("white", "white needs a level in dB such as white@10, got white"),
        ("white@", "white needs a level in dB such as white@10, got white@"),
        ("white@loud", "white needs a level in dB such as white@10, got white@loud"),
        ("white@nan", "white needs a level in dB such as white@10, got white@nan"),
        ("white@ 1", "white needs a level in dB such as white@10, got white@ 1"),
        ("white@1e1", "white needs a level in dB such as white@10, got white@1e1"),
        ("white@1:2:1", "white needs a level in dB such as white@10, got white@1:2:1"),
        ("white@101", "white must be -100 to 100 dB, got white@101"),
        ("reverb", "reverb needs a level in s such as reverb@0.6, got reverb"),
        ("reverb@60", "reverb must be 0.2 to 1.5 s, got reverb@60"),
        ("opus@5", "opus must be 6 to 256 kbit/s, got opus@5"),
        ("mp3@17", "mp3 must be 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160 kbit/s, got mp3@17"),
        ("loss@101", "loss must be 0 to 100 %, got loss@101"),
        ("clip@-1", "clip must be 0 to 100 dB, got clip@-1"),
    ],
    ids=lambda value: value.removeprefix(KNOWN),
)
def test_invalid_names(name: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_condition(name)
    assert str(caught.value) == message


def test_noise_is_found_from_the_working_directory(noise_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(noise_file.parent)
    there = parse_condition("tap.wav@5")
    assert there == Condition("tap.wav@5", "tap.wav", 5.0)
    np.testing.assert_array_equal(under("tap.wav@5", SPEECH), under(f"{noise_file}@5", SPEECH))
    with pytest.raises(SettingsError, match=r"tap.wav needs a level in dB such as tap.wav@10, got tap.wav"):
        parse_condition("tap.wav")
    (noise_file.parent / "empty").mkdir()
    with pytest.raises(SettingsError, match="got none in"):
        parse_condition("empty@5")


def test_ranges_stand_for_their_levels() -> None:
    names = [
        condition.name
        for condition in parse_conditions(["white@40:-10:-5", "", "loss@0:5:2.5", "white@10.0", "pink@-0"])
    ]
    assert names[:11] == [f"white@{level}" for level in range(40, -11, -5)]
    assert names[11:] == ["clean", "loss@0", "loss@2.5", "loss@5", "pink@0"]
    assert [condition.level for condition in parse_conditions(["gain@0.1:0.3:0.1"])] == [0.1, 0.2, 0.3]
    assert [condition.name for condition in parse_conditions(["gain@3:3:1"])] == ["gain@3"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("white@40:-10:5", "whole steps must lead from the first level to the last, got white@40:-10:5"),
        ("white@40:-10:-3", "whole steps must lead from the first level to the last, got white@40:-10:-3"),
        ("white@1:2:0", "whole steps must lead from the first level to the last, got white@1:2:0"),
        ("white@1:2", "a range of levels must be first:last:step such as white@40:-10:-5, got white@1:2"),
        ("telephone@1:2:1", "telephone takes no level, got telephone@1"),
    ],
)
def test_invalid_ranges(name: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_conditions([name])
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "clean"),
        ("white@10", "white noise at 10 dB"),
        ("babble@-5", "babble of other speakers at -5 dB"),
        ("telephone", "telephone band, mu-law"),
        ("opus@6", "Opus at 6 kbit/s"),
        ("loss@10", "10 % of the packets lost"),
        ("clip@12", "clipped 12 dB below the peak"),
    ],
)
def test_descriptions(name: str, words: str) -> None:
    assert parse_condition(name).describe() == words
    assert pickle.loads(pickle.dumps(parse_condition(name))) == parse_condition(name)


def test_description_of_recorded_noise(noise_file: Path) -> None:
    assert parse_condition(f"{noise_file}@0").describe() == "noise of tap.wav at 0 dB"
