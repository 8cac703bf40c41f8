"""Who holds the words of a query, out of the postings that `segments` keeps."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
import numpy as np

from knowledge_base.lexical.bm25 import idf
from knowledge_base.lexical.function_words import importance, is_function_word
from knowledge_base.lexical.tokens import tokens
from knowledge_base.stores.connections import Connection
from knowledge_base.stores.scoring import Match, Term
from knowledge_base.stores.segments import POSTING, Numbers, in_pack, inside, numbers

# Read of one query, rarer words first. What is left out beyond are words that nearly every chunk of a large base holds.
MAX_POSTINGS = 120_000

# One statement, which sees one moment. Rows without a term are that of the index, first (n chunks of so many words, and
# who of them is dead), and those of packs, which have several.
QUERY = """
    WITH wanted AS (
        SELECT term, sum(n)::bigint AS df FROM kb_postings WHERE index = $1 AND term = ANY($2::text[]) GROUP BY term
    ), rarest AS (
        SELECT term, df, sum(df) OVER (ORDER BY df, term) AS read FROM wanted
    )
    SELECT NULL AS term, i.chunks AS n, i.words AS words, (
        SELECT string_agg(int8send(number), ''::bytea ORDER BY number) FROM kb_dead WHERE index = $1
    ) AS postings, NULL AS terms, NULL::bytea AS counts FROM kb_indexes i WHERE i.number = $1 AND i.state = 'live'
    UNION ALL
    SELECT p.term, p.n, 0, CASE WHEN r.read <= $3 OR r.read = r.df THEN p.postings END, NULL, NULL
    FROM rarest r JOIN kb_postings p ON p.index = $1 AND p.term = r.term
    UNION ALL
    SELECT NULL, 0, 0, postings, terms, counts FROM kb_packs WHERE index = $1
"""


async def match(connection: Connection, index: int, query: str, allowed: Numbers | None) -> Match | None:
    """Who holds the query's words, of `allowed` (rising) if given; None: the index is not live any more.

    Of words whose postings are too many to be read (see MAX_POSTINGS) neither score nor coverage know.
    """
    wanted = list(dict.fromkeys(tokens(query)))
    rows = await connection.fetch(QUERY, index, wanted, MAX_POSTINGS)
    packs = [row for row in rows if row["terms"] is not None]
    about = next((row for row in rows if row["term"] is None and row["terms"] is None), None)
    if about is None:
        return None
    return _match(wanted, about, [row for row in rows if row["term"] is not None], packs, allowed)


def _match(
    wanted: Sequence[str],
    about: asyncpg.Record,
    rows: Sequence[asyncpg.Record],
    packs: Sequence[asyncpg.Record],
    allowed: Numbers | None,
) -> Match:
    dead = numbers(about["postings"])
    passed = {row["term"] for row in rows if row["postings"] is None}
    held: dict[str, list[bytes]] = {word: [] for word in wanted if word not in passed}
    for row in rows:
        if row["term"] not in passed:
            held[row["term"]].append(row["postings"])
    for word, parts in held.items():
        parts.extend(in_pack(pack, word).tobytes() for pack in packs)
    terms, whole, unknown = [], 0.0, 0
    for word, parts in held.items():
        postings = np.frombuffer(b"".join(parts), POSTING)
        if len(dead):
            postings = postings[~inside(postings["chunk"], dead)]
        rarity = importance(word) * idf(about["n"], len(postings))
        whole += rarity
        unknown += not len(postings) and not is_function_word(word)
        if allowed is not None:
            postings = postings[inside(postings["chunk"], allowed)]
        terms.append(Term(rarity, postings))
    named = sum(not is_function_word(word) for word in wanted)
    known = 1 - unknown / named if named else 1.0
    return Match(terms, about["words"] / max(about["n"], 1), whole, known)
