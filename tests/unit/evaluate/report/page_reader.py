"""A page as a tree of elements."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "wbr", "br", "img", "input", "hr", "source"}


@dataclass
class Node:
    """An HTML element."""

    tag: str
    attributes: dict[str, str]
    inside: list["Node | str"] = field(default_factory=list)

    def all(self, tag: str) -> Iterator["Node"]:
        """All descendants with this tag."""
        for child in self.inside:
            if isinstance(child, Node):
                if tag in (child.tag, "*"):
                    yield child
                yield from child.all(tag)

    @property
    def text(self) -> str:
        """Text content with single spaces."""
        parts = [child if isinstance(child, str) else child.text for child in self.inside]
        return " ".join("".join(parts).split())


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Node("root", {})
        self.open = [self.root]
        self.problems: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        if len(names) != len(set(names)):
            self.problems.append(f"{tag} has an attribute twice")
        node = Node(tag, {name: value or "" for name, value in attrs})
        self.open[-1].inside.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].inside.append(Node(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if self.open[-1].tag != tag:
            self.problems.append(f"</{tag}> closes <{self.open[-1].tag}>")
        else:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].inside.append(data)


def read(page: str) -> Node:
    """Parse a page; fails if an element is not closed or has an attribute twice."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert not reader.problems, reader.problems[:5]
    assert len(reader.open) == 1, [node.tag for node in reader.open]
    return reader.root
