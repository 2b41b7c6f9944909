"""Reads Markdown: code blocks, inline code, links and headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from local.process import ROOT

FENCE: Final = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
INLINE: Final = re.compile(r"`([^`\n]+)`")
LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING: Final = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced code block. `before`: the paragraph above it."""

    language: str
    text: str
    before: str


@dataclass(frozen=True)
class Page:
    """A Markdown file."""

    path: Path

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    def blocks(self, language: str | None = None) -> list[Block]:
        """Its code blocks, without the indentation of a list around them."""
        found = []
        for match in FENCE.finditer(self.text):
            indent, name, text = match.groups()
            before = self.text[: match.start()].rstrip().rpartition("\n\n")[2]
            if language in (None, name):
                found.append(Block(name, re.sub(f"^{indent}", "", text, flags=re.MULTILINE), before))
        return found

    def commands(self) -> Iterator[str]:
        """The command lines of its console blocks, continued lines joined, and all inline code."""
        for block in self.blocks("console"):
            for line in block.text.replace("\\\n", " ").splitlines():
                if line.startswith("$ "):
                    yield line.removeprefix("$ ")
        yield from self.inline()

    def inline(self) -> list[str]:
        """Its inline code."""
        return INLINE.findall(self.prose)

    @cached_property
    def prose(self) -> str:
        """The text without its code blocks."""
        return FENCE.sub("", self.text)

    def links(self) -> list[str]:
        """The targets of its links."""
        return LINK.findall(self.prose)

    def anchors(self) -> set[str]:
        """The anchors that GitHub gives to its headings."""
        return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in HEADING.findall(self.prose)}

    def __str__(self) -> str:
        return str(self.path.relative_to(ROOT))


PAGES: Final = [
    Page(path)
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted(ROOT.glob("docs/*.md")))
]


def page(name: str) -> Page:
    """The page of this path below the root."""
    return Page(ROOT / name)
