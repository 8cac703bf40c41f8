"""Html as markdown: what a reader would see, and nothing that is fetched or run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from selectolax.lexbor import LexborHTMLParser, LexborNode

from knowledge_base.parsing.draft import Body, Draft, clean, one_line, table


def _tags(names: str) -> frozenset[str]:
    return frozenset(names.split())


UNSEEN = _tags(
    "script style noscript template svg math iframe object embed applet canvas audio video head title meta "
    "link select datalist input textarea button nav dialog"
)
BLOCKS = _tags(
    "address article aside blockquote body center dd details div dl dt fieldset figcaption figure footer form "
    "header hgroup hr html legend main p section summary table thead tbody tfoot tr td th caption ul ol menu "
    "li pre h1 h2 h3 h4 h5 h6"
)
LISTS = ("ul", "ol", "menu")
LEVELS = {f"h{level}": level for level in range(1, 7)}
MOST_SPANNED = 100
BREAK = "\x0b"  # a line break that was meant; no text holds this character any more
_HIDING = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*(?:hidden|collapse)|(?:font-size|opacity)\s*:\s*0(?![.\d]*[1-9])", re.I
)


def read_html(name: str, text: str, max_chars: int) -> Body:
    """Headings, paragraphs, lists, tables and preformatted text of the page's main part, if it marks one."""
    parser = LexborHTMLParser(clean(text))
    root = parser.root
    if root is None:
        return Body("")
    titles = parser.css("head > title") or parser.css("title")
    title = one_line(titles[0].text(deep=True)) if titles else ""
    language = root.attributes.get("lang") or ""
    mains = parser.css("main, [role=main]")
    writer = _Writer(Draft(name, max_chars))
    if len(mains) == 1 and len(one_line(mains[0].text(deep=True))) > 200:
        root = mains[0]
    for node, enters in _walk(root):
        if enters:
            writer.enter(node)
        else:
            writer.leave(node)
    writer.flush()
    body = writer.draft.body(language=language)
    body.title = title or (body.headings[0].text if body.headings else "")
    return body


def _walk(root: LexborNode) -> Iterator[tuple[LexborNode, bool]]:
    """Every element and text that is seen, when it begins and, of elements, when it ends; of any depth."""
    path: list[LexborNode] = []
    node: LexborNode | None = root
    while node is not None:
        below = None
        if node.is_text_node:
            yield node, True
        elif node.is_element_node and not _unseen(node):
            yield node, True
            below = node.child
            if below is None:
                yield node, False
            else:
                path.append(node)
        follower = below or (node.next if path else None)
        while follower is None and path:
            ended = path.pop()
            yield ended, False
            follower = ended.next if path else None
        node = follower


def _unseen(node: LexborNode) -> bool:
    if node.tag in UNSEEN:
        return True
    attributes = node.attributes
    if not attributes:
        return False
    if "hidden" in attributes or (attributes.get("aria-hidden") or "").lower() == "true":
        return True
    style = attributes.get("style")
    return bool(style and _HIDING.search(style))


@dataclass(slots=True)
class _Table:
    rows: list[list[str]] = field(default_factory=list)
    below: dict[int, tuple[int, str]] = field(default_factory=dict)  # by column: rows that a cell still spans, its text
    caption: str = ""


class _Writer:
    """Makes blocks of what comes, in order."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self._inline: list[str] = []
        self._lists: list[int] = []  # of each list that is open the number of its next item, -1 without numbers
        self._lines: list[str] = []  # of the outermost list
        self._item = ""  # mark of the item that has no text yet
        self._tables: list[_Table] = []
        self._verbatim = 0
        self._level = 0  # of the heading that is open

    def enter(self, node: LexborNode) -> None:
        tag = node.tag or ""
        if node.is_text_node:
            self._inline.append(node.text_content or "")
        elif tag == "br":
            self._inline.append("\n" if self._verbatim else BREAK)
        elif tag in BLOCKS:
            if not self._in_cell():
                self.flush()
            elif self._inline:
                self._inline.append(" ")
            self._open(node, tag)

    def leave(self, node: LexborNode) -> None:
        tag = node.tag or ""
        if node.is_text_node or tag not in BLOCKS:
            return
        if tag == "table":
            self._close_table()
        elif self._in_cell():
            self._leave_in_table(node, tag)
        elif tag in LEVELS and self._level:
            text, self._level = self._taken(), 0
            self.draft.heading(LEVELS[tag], text)
        else:
            self.flush()
            if tag in LISTS and self._lists:
                self._lists.pop()
                if not self._lists:
                    self._end_list()
            elif tag == "pre":
                self._verbatim -= 1

    def flush(self) -> None:
        """What stands there so far is a block, or an item's line."""
        verbatim = self._verbatim > 0 and not self._lists
        text = "".join(self._inline).strip("\n").rstrip() if verbatim else self._taken()
        self._inline.clear()
        if not text:
            return
        if verbatim:
            fence = "````" if "```" in text else "```"
            self.draft.block(f"{fence}\n{text}\n{fence}")
        elif self._lists:
            indent = "  " * (len(self._lists) - 1)
            mark = self._item or "  "
            self._lines.append(indent + mark + text.replace("\n", f"\n{indent}  "))
            self._item = ""
        else:
            self.draft.block(text)

    def _open(self, node: LexborNode, tag: str) -> None:
        if tag == "table":
            if not self._tables:
                self._end_list()
            self._tables.append(_Table())
            self._inline.clear()
        elif self._tables:
            if tag == "tr" and len(self._tables) == 1:
                self._tables[-1].rows.append([])
                self._span()
        elif tag in LISTS:
            start = node.attributes.get("start") or ""
            self._lists.append(-1 if tag != "ol" else int(start) if re.fullmatch(r"[0-9]{1,9}", start) else 1)
        elif tag == "li" and self._lists:
            number = self._lists[-1]
            self._item = "- " if number < 0 else f"{number}. "
            self._lists[-1] += number >= 0
        elif tag == "pre":
            self._verbatim += 1
        elif tag in LEVELS and not self._lists:
            self._level = LEVELS[tag]

    def _taken(self) -> str:
        lines = [one_line(line) for line in "".join(self._inline).split(BREAK)]
        self._inline.clear()
        return "\n".join(line for line in lines if line)

    def _end_list(self) -> None:
        if self._lines:
            self.draft.block("\n".join(self._lines))
            self._lines.clear()
        self._item = ""

    def _in_cell(self) -> bool:
        return bool(self._tables)

    def _leave_in_table(self, node: LexborNode, tag: str) -> None:
        held = self._tables[0]
        if len(self._tables) > 1:
            self._inline.append(" ")
        elif tag in ("td", "th"):
            self._cell(held, node)
        elif tag == "caption":
            held.caption = one_line("".join(self._inline))
            self._inline.clear()
        elif tag == "tr":
            self._inline.clear()

    def _cell(self, held: _Table, node: LexborNode) -> None:
        text = one_line("".join(self._inline))
        self._inline.clear()
        if not held.rows:
            held.rows.append([])
        row = held.rows[-1]
        down = _spanned(node, "rowspan")
        for n in range(_spanned(node, "colspan")):
            if down > 1:
                held.below[len(row)] = (down - 1, text if n == 0 else "")
            row.append(text if n == 0 else "")
        self._span()

    def _span(self) -> None:
        """Cells of the rows above that reach into this one, at its end so far."""
        held = self._tables[0]
        row = held.rows[-1]
        while (spanning := held.below.pop(len(row), None)) is not None:
            left, text = spanning
            if left > 1:
                held.below[len(row)] = (left - 1, text)
            row.append(text)

    def _close_table(self) -> None:
        if not self._tables:
            return
        held = self._tables.pop()
        if self._tables:
            self._inline.append(" ")
            return
        self._inline.clear()
        if held.caption:
            self.draft.block(held.caption)
        if max((len(row) for row in held.rows), default=0) <= 1:
            for row in held.rows:
                self.draft.block(" ".join(row))
        else:
            self.draft.block(table(held.rows))


def _spanned(node: LexborNode, attribute: str) -> int:
    told = node.attributes.get(attribute) or "1"
    return min(max(int(told), 1), MOST_SPANNED) if re.fullmatch(r"[0-9]{1,5}", told) else 1
