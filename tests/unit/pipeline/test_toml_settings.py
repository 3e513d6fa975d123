"""TOML tables become settings, or one error lists all problems."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from whisperstill.errors import SettingsError
from whisperstill.pipeline.toml_settings import TableError, build_settings, expand_env
from whisperstill.records.serialization import ValueMismatch


@dataclass(frozen=True)
class Inner:
    weight: float = 1.0


@dataclass(frozen=True)
class Sample:
    name: str
    folder: Path
    count: int = 3
    rate: float = 0.5
    on: bool = False
    kind: Literal["a", "b"] = "a"
    files: tuple[Path, ...] = ()
    pair: tuple[int, float] = (1, 2.0)
    maybe: tuple[int, ...] | None = None
    limit: float | None = None
    inner: Inner = field(default_factory=Inner)
    model: str = ""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise SettingsError("count must be above 0")


BASE = Path("recipes")


def build(table: dict[str, Any], base_dir: Path = BASE) -> Sample:
    return build_settings(Sample, {"name": "n", "folder": "p"} | table, "sample", base_dir)


def test_values_have_the_types_of_their_fields() -> None:
    sample = build(
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
    assert sample == Sample(
        name="n",
        folder=Path("recipes/p"),
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
        ({"cuont": 1}, "[sample] has an unknown key 'cuont' (its keys: count, files, folder"),
        ({"inner": 3}, "inner: expected a table, got 3"),
        ({"inner": {"wieght": 1}}, "[sample.inner] has an unknown key 'wieght' (its keys: weight)"),
    ],
    ids=str,
)
def test_a_wrong_value_is_one_problem(table: dict[str, Any], expected: str) -> None:
    with pytest.raises(TableError) as caught:
        build(table)
    [problem] = caught.value.problems
    assert expected in problem


def test_one_error_lists_all_problems() -> None:
    with pytest.raises(TableError) as caught:
        build_settings(Sample, {"count": "x", "other": 1}, "sample", BASE)
    assert len(caught.value.problems) == 4
    assert "[sample] needs name (a string)" in caught.value.problems
    assert str(caught.value) == "; ".join(caught.value.problems)


def test_environment_variables_are_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_FOLDER", "/data")
    monkeypatch.delenv("NOT_SET", raising=False)
    assert build({"folder": "${A_FOLDER}/x"}).folder == Path("/data/x")
    assert build({"folder": "${NOT_SET:-../speech}/x"}).folder == Path("speech/x")
    assert expand_env("no $variable here") == "no $variable here"
    with pytest.raises(ValueMismatch, match="NOT_SET is not set"):
        expand_env("${NOT_SET}")
    with pytest.raises(TableError, match=r"\[sample\] name: the environment variable NOT_SET is not set"):
        build({"name": "${NOT_SET}"})


def test_only_some_strings_may_be_paths(tmp_path: Path) -> None:
    """`model` may be a name or a path relative to the file; `name` is never a path."""
    (tmp_path / "mine").mkdir()
    assert build({"model": "tiny.en"}, tmp_path).model == "tiny.en"
    assert build({"model": "mine"}, tmp_path).model == str(tmp_path / "mine")
    assert build({"model": "../there"}).model == "there"
    assert build({"name": "mine"}, tmp_path).name == "mine"


def test_invalid_combination_is_a_problem_of_its_table() -> None:
    with pytest.raises(TableError, match=r"\[sample\] count must be above 0"):
        build({"count": 0})
