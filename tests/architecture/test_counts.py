"""The structure's counts (see counts.py) stay at their targets."""

import ast

import counts

PACKAGE = counts.Path(__file__).resolve().parents[2] / "src" / "whisperstill"
MODULES = counts.read_modules(PACKAGE)
UNTYPED = {
    "whisperstill.model.checkpoints.assemble.require_integers",
    "whisperstill.model.checkpoints.huggingface.load_torch_file",
    "whisperstill.model.checkpoints.huggingface.check_format",
    "whisperstill.model.checkpoints.huggingface_writer.checkpoint_identity",
    "whisperstill.model.checkpoints.huggingface_writer.build_config",
    "whisperstill.model.checkpoints.huggingface_writer.build_generation_config",
    "whisperstill.model.checkpoints.huggingface_writer.build_preprocessor_config",
    "whisperstill.pipeline.recipe.Recipe.settings",
    "whisperstill.pipeline.toml_settings.build_settings",
    "whisperstill.records.serialization.type_name",
}
"""Public functions that still have `Any` or `object` in their signatures; the list only gets shorter."""


def test_no_import_cycles() -> None:
    assert counts.import_cycles(MODULES) == []


def test_no_long_functions() -> None:
    assert counts.long_functions(MODULES) == []


def test_no_wide_functions() -> None:
    assert counts.wide_functions(MODULES) == []


def test_no_class_name_is_used_twice() -> None:
    assert counts.repeated_class_names(MODULES) == []


def test_public_signatures_are_typed() -> None:
    assert set(counts.untyped_signatures(MODULES)) <= UNTYPED


def test_the_counts_find_what_they_count() -> None:
    code = "from p import b\nclass C: ...\ndef f(a, b, c, d, e, g, h, i: object):\n" + "    x = 1\n" * 60
    modules = {"p": ast.parse(""), "p.a": ast.parse(code), "p.b": ast.parse("def f():\n import p.a\nclass C: ...")}
    assert counts.import_cycles(modules) == [["p.a", "p.b"]]
    assert counts.long_functions(modules) == [("p.a.f", 61)]
    assert counts.wide_functions(modules) == [("p.a.f", 8)]
    assert counts.repeated_class_names(modules) == [("C", ["p.a", "p.b"])]
    assert counts.untyped_signatures(modules) == ["p.a.f"]
