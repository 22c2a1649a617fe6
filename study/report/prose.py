"""The README's question and findings as HTML.

Markdown is rendered with raw HTML switched off. A figure becomes a link to the figure in
its chapter, a command of an experiment a link to the chapter; any other link that does not
lead to a web page is left out.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Container, Sequence
from html import escape
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

FIGURE = re.compile(r"results/([\w-]+)/([\w-]+)\.png")
COMMAND = re.compile(r"(?:python -m experiments\.)?(\w+)")


def question(readme: str) -> tuple[str, str]:
    """Title and first paragraph, as plain Markdown; empty where there are none."""
    title = re.search(r"^# (.+)$", readme, re.MULTILINE)
    rest = readme[title.end() :] if title else readme
    first = next((p for p in re.split(r"\n\s*\n", rest) if p.strip()), "")
    return (title[1] if title else ""), first.strip()


def findings(readme: str) -> str:
    """The section `## Findings` without its last part, the counts of all predictions."""
    _, _, rest = readme.partition("\n## Findings\n")
    section = re.split(r"^## ", rest, maxsplit=1, flags=re.MULTILINE)[0]
    return section.partition("\n### Every prediction")[0].strip()


def alternatives(readme: str) -> dict[tuple[str, str], str]:
    """What the README says in place of each figure, by (experiment, stem)."""
    found = re.findall(r"!\[([^\]]*)\]\(" + FIGURE.pattern + r"\)", readme)
    return {(name, stem): text for text, name, stem in found}


def headings(markdown: str) -> list[tuple[str, str, str]]:
    """Tag, id and text of each heading."""
    tokens = _parser().parse(markdown)
    pairs = itertools.pairwise(tokens)
    return [
        (token.tag, _slug(inline.content), inline.content)
        for token, inline in pairs
        if token.type == "heading_open"
    ]


def html(
    markdown: str, figures: Container[tuple[str, str]], names: Container[str]
) -> Markup:
    """Markdown as HTML, safe to insert.

    Args:
        markdown: the text.
        figures: (experiment, stem) of the figures on the page.
        names: of the chapters on the page.
    """
    parser = _parser()
    tokens = parser.parse(markdown)
    for token, following in zip(tokens, [*tokens[1:], *tokens[:1]], strict=True):
        if token.type == "heading_open":
            token.attrs["id"] = _slug(following.content)
        if token.children:
            token.children = _linked(token.children, figures, names)
    return Markup(parser.renderer.render(tokens, parser.options, {}))


def _parser() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False}).enable("table")


def _slug(text: str) -> str:
    return "finding-" + re.sub(r"\W+", "-", text.lower()).strip("-")


def _linked(
    tokens: Sequence[Token],
    figures: Container[tuple[str, str]],
    names: Container[str],
) -> list[Token]:
    out: list[Token] = []
    dropped = False
    for token in tokens:
        href = str(token.attrs.get("src") or token.attrs.get("href") or "")
        figure = FIGURE.fullmatch(href)
        known = figure is not None and (figure[1], figure[2]) in figures
        if token.type == "image":
            target = f"figure-{figure[1]}-{figure[2]}" if figure and known else ""
            out.append(_raw(_thumbnail(target, token.content)))
        elif token.type == "link_open":
            if figure and known:
                token.attrs["href"] = f"#figure-{figure[1]}-{figure[2]}"
            dropped = not known and not re.match(r"https?://", href)
            out += [] if dropped else [token]
        elif token.type == "link_close":
            out += [] if dropped else [token]
            dropped = False
        elif (
            token.type == "code_inline"
            and (command := COMMAND.fullmatch(token.content))
            and command[1] in names
        ):
            inside = f"<code>{escape(token.content)}</code>"
            out.append(_raw(f'<a href="#experiment-{command[1]}">{inside}</a>'))
        else:
            out.append(token)
    return out


def _thumbnail(target: str, text: str) -> str:
    """A link to a figure, into which the page's script puts the picture."""
    if not target:
        return f"<span>{escape(text)}</span>"
    return f'<a class="shown" href="#{target}" data-figure="{target}">{escape(text)}</a>'


def _raw(content: str) -> Any:
    return Token("html_inline", "", 0, content=content)
