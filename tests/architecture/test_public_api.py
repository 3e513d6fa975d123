"""What `import whisperstill` offers."""

import whisperstill


def test_all_is_sorted_and_whole() -> None:
    assert whisperstill.__all__ == sorted(whisperstill.__all__)
    assert set(whisperstill.__all__) == {*whisperstill._LAZY_NAMES, "__version__"}
    assert len(set(whisperstill.__all__)) == len(whisperstill.__all__)
    assert dir(whisperstill) == whisperstill.__all__


def test_every_public_name_is_there() -> None:
    for name in whisperstill.__all__:
        assert getattr(whisperstill, name) is not None, name


def test_every_error_is_public() -> None:
    from whisperstill import errors

    known = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert known <= set(whisperstill.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(whisperstill, "no_such_thing")
