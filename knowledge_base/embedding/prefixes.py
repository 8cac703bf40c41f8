"""What some models want to stand before a text, so that questions and documents meet; by the model's name.

From the models' own cards. A server that adds them itself (TEI with a default prompt) must be told not to.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ENGLISH = "Represent this sentence for searching relevant passages: "
_TASK = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"


@dataclass(frozen=True, slots=True)
class Prefixes:
    """`family` names the habit; it is part of what the vectors are."""

    family: str = ""
    query: str = ""
    document: str = ""


NONE = Prefixes()
# The first that is found in the name, in lower case, holds.
_BY_NAME: tuple[tuple[re.Pattern[str], Prefixes], ...] = tuple(
    (re.compile(pattern), prefixes)
    for pattern, prefixes in (
        (r"e5-mistral|e5.*instruct", Prefixes("e5-instruct", query=_TASK.replace("Query:", "Query: "))),
        (r"(^|[/_-])e5-", Prefixes("e5", "query: ", "passage: ")),
        (r"bge-m3|bge-multilingual|bge-en-icl", NONE),
        (r"bge-(small|base|large)-zh", Prefixes("bge-zh", query="为这个句子生成表示以用于检索相关文章：")),
        (r"bge-(small|base|large)", Prefixes("bge", query=_ENGLISH)),
        (r"mxbai-embed", Prefixes("mxbai", query=_ENGLISH)),
        (r"arctic-embed.*(v2|2\.0)|arctic-embed2", Prefixes("arctic2", query="query: ")),
        (r"arctic-embed", Prefixes("arctic", query=_ENGLISH)),
        (r"nomic-embed", Prefixes("nomic", "search_query: ", "search_document: ")),
        (r"embeddinggemma", Prefixes("gemma", "task: search result | query: ", "title: none | text: ")),
        (r"qwen3-embedding", Prefixes("qwen3", query=_TASK)),
    )
)


def prefixes_of(name: str) -> Prefixes:
    """Those of a model by its name, path or address; `NONE` for others."""
    lowered = name.lower()
    return next((prefixes for pattern, prefixes in _BY_NAME if pattern.search(lowered)), NONE)
