"""DecodingOptions: validation, and openai/whisper's forms."""

import math

import pytest

from whisperstill.decode.options import DecodingOptions
from whisperstill.decode.transcriber import build_options
from whisperstill.errors import SettingsError


def test_all_problems_in_one_error() -> None:
    invalid = {
        "temperature": (0.0, -0.2),
        "best_of": 0,
        "beam_size": 0,
        "batch_size": -1,
        "patience": 0.0,
        "length_penalty": 1.5,
        "max_initial_timestamp": -1.0,
        "long_form": "magic",
        "chunk_length": 60.0,
        "task": "sing",
    }
    with pytest.raises(SettingsError) as caught:
        DecodingOptions(**invalid)  # type: ignore[arg-type]
    problems = str(caught.value).split("; ")
    assert len(problems) == len(invalid)
    for name in invalid:
        assert sum(problem.startswith(name) for problem in problems) == 1, name


@pytest.mark.parametrize(
    "invalid",
    [
        {"temperature": ()},
        {"temperature": (math.nan,)},
        {"temperature": (math.inf,)},
        {"beam_size": 1, "patience": 0.3},
        {"patience": math.nan},
        {"length_penalty": math.nan},
        {"chunk_length": math.nan},
        {"max_initial_timestamp": math.inf},
    ],
    ids=lambda invalid: ", ".join(f"{name}={value}" for name, value in invalid.items()),
)
def test_invalid_numbers_raise(invalid: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=list(invalid)[-1]):
        DecodingOptions(**invalid)  # type: ignore[arg-type]


def test_limits_are_allowed() -> None:
    DecodingOptions(
        temperature=(0.0,), patience=0.6, length_penalty=0.0, max_initial_timestamp=30, chunk_length=5, beam_size=1
    )
    DecodingOptions(chunk_length=30, length_penalty=1.0, max_initial_timestamp=0)


def test_single_value_stands_for_tuple() -> None:
    assert build_options({"temperature": 0.5}).temperature == (0.5,)
    assert build_options({"temperature": [0, 1]}).temperature == (0, 1)
    assert build_options({"suppress_tokens": 7}).suppress_tokens == (7,)
    assert build_options({}) == DecodingOptions()
    with pytest.raises(SettingsError, match="got option beamsize"):
        build_options({"beamsize": 3})


def test_openai_whisper_forms() -> None:
    plain = DecodingOptions()
    written = {"suppress_tokens": "-1", "beam_size": None, "patience": None, "length_penalty": None}
    assert build_options(written) == plain
    assert build_options({"initial_prompt": [7, 8]}).initial_prompt == (7, 8)
    with pytest.raises(SettingsError, match="initial_prompt must be text or token ids, got 5"):
        build_options({"initial_prompt": 5})
    assert build_options({"initial_prompt": "so", "prefix": None}) == DecodingOptions(initial_prompt="so")
    nothing = build_options({"suppress_tokens": None, "best_of": None, "max_initial_timestamp": None})
    assert nothing == DecodingOptions(suppress_tokens=(), best_of=1, max_initial_timestamp=30.0)
    assert build_options({"suppress_tokens": "-1,7"}).suppress_tokens == (-1, 7)
    assert build_options({"logprob_threshold": None}).logprob_threshold is None
    with pytest.raises(SettingsError, match="comma-separated ids"):
        build_options({"suppress_tokens": "a"})
