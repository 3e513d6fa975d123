"""Build hooks of the documentation site: the reference of commands, and links to files outside docs/."""

import os
import re
import subprocess
import sys
from typing import Any

REPOSITORY = "https://github.com/whisperstill/whisperstill/blob/main"
FRAME = re.compile(r"[│╭╮╰╯─]")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill in the commands' help, and point links that leave docs/ to the repository."""
    if page.file.src_uri == "reference/cli.md":
        markdown += "".join(f"\n## {verb}\n\n```text\n{help_of(verb)}\n```\n" for verb in verbs())
    depth = page.file.src_uri.count("/")
    outside = re.compile(r"\]\(" + r"\.\./" * (depth + 1) + r"(?!\.\.)([^)#]+)(#[^)]*)?\)")
    return outside.sub(lambda match: f"]({REPOSITORY}/{match[1]}{match[2] or ''})", markdown)


def verbs() -> list[str]:
    """The commands, in the order of `whisperstill --help`."""
    from whisperstill.cli.verbs import VERBS

    return list(VERBS)


def help_of(verb: str) -> str:
    """The help of one command, without frames."""
    environment = {**os.environ, "COLUMNS": "110", "NO_COLOR": "1", "WHISPERSTILL_NO_REEXEC": "1"}
    command = [sys.executable, "-m", "whisperstill", verb, "--help"]
    text = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    lines = (FRAME.sub(" ", line).rstrip() for line in text.splitlines())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
