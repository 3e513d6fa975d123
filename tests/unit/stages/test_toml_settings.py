"""Values of a recipe become values of settings, or one error names all that is wrong."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from whisperstill.stages.toml_settings import TypeMismatch, build_settings, convert_value, expand_env


@dataclass(frozen=True)
class Inner:
    weight: float = 1.0


@dataclass(frozen=True)
class Sample:
    name: str
    place: Path
    count: int = 3
    rate: float = 0.5
    on: bool = False
    kind: Literal["a", "b"] = "a"
    files: tuple[Path, ...] = ()
    pair: tuple[int, float] = (1, 2.0)
    maybe: tuple[int, ...] | None = None
    limit: float | None = None
    inner: Inner = field(default_factory=Inner)


BASE = Path("recipes")


def filled(table: dict[str, Any]) -> tuple[Sample | None, list[str]]:
    problems: list[str] = []
    return build_settings(Sample, {"name": "n", "place": "p"} | table, "[sample]", BASE, problems), problems


def test_values_take_the_types_of_their_fields() -> None:
    sample, problems = filled(
        {
            "rate": 2,
            "kind": "b",
            "files": ["x.jsonl", "../y.jsonl", "/z.jsonl"],
            "pair": [4, 5],
            "maybe": [1, 2],
            "limit": 7,
            "inner": {"weight": 3},
            "on": True,
        }
    )
    assert problems == []
    assert sample == Sample(
        name="n",
        place=Path("recipes/p"),
        rate=2.0,
        kind="b",
        files=(Path("recipes/x.jsonl"), Path("y.jsonl"), Path("/z.jsonl")),
        pair=(4, 5.0),
        maybe=(1, 2),
        limit=7.0,
        inner=Inner(3.0),
        on=True,
    )
    assert isinstance(sample.rate, float)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"count": "3"}, "count: expected a whole number, got '3'"),
        ({"count": 3.0}, "count: expected a whole number, got 3.0"),
        ({"count": True}, "count: expected a whole number, got True"),
        ({"rate": True}, "rate: expected a number, got True"),
        ({"on": 1}, "on: expected true or false, got 1"),
        ({"kind": "c"}, "kind: expected one of 'a', 'b', got 'c'"),
        ({"files": "x"}, "files: expected a list, each a path in quotes, got 'x'"),
        ({"files": [1]}, "files: expected a path in quotes, got 1"),
        ({"pair": [1]}, "pair: expected a list"),
        ({"maybe": "x"}, "maybe: expected a list, each a whole number, got 'x'"),
        ({"cuont": 1}, "[sample] knows no key 'cuont' (it knows count, files, inner"),
        ({"inner": {"wieght": 1}}, "[sample.inner] knows no key 'wieght' (it knows weight)"),
    ],
)
def test_what_does_not_fit_is_named(table: dict[str, Any], expected: str) -> None:
    sample, problems = filled(table)
    assert sample is None
    assert len(problems) == 1
    assert expected in problems[0]


def test_all_problems_are_collected() -> None:
    problems: list[str] = []
    assert build_settings(Sample, {"count": "x", "other": 1}, "[sample]", BASE, problems) is None
    assert len(problems) == 4
    assert any("needs name (a string)" in problem for problem in problems)


def test_the_environment_may_name_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_FOLDER", "/data")
    monkeypatch.delenv("NOT_SET", raising=False)
    assert convert_value("${A_FOLDER}/x", Path, BASE) == Path("/data/x")
    assert convert_value("${NOT_SET:-../speech}/x", Path, BASE) == Path("speech/x")
    assert expand_env("no $variable here") == "no $variable here"
    with pytest.raises(TypeMismatch, match="NOT_SET is not set"):
        expand_env("${NOT_SET}")


def test_a_string_may_be_a_name_or_a_path_beside_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert convert_value("tiny.en", str, tmp_path, may_be_path=True) == "tiny.en"
    assert convert_value("mine", str, tmp_path, may_be_path=True) == str(tmp_path / "mine")
    assert convert_value("../there", str, Path("recipes"), may_be_path=True) == "there"
    assert convert_value("mine", str, tmp_path) == "mine"  # such as a language
