"""What a knowledge base costs at 100,000 chunks: a first load, later puts, and searches; pgvector beside Chroma.

    uv run python -m tests.load.bench_knowledge [--quick] [--chunks N] [--stores pgvector,chroma] [--json PATH]

PostgreSQL is the embedded one with its usual settings, in a folder of its own; Chroma is `chroma run`. Texts are words
drawn by Zipf's law from 1,000 topics, vectors lie around their topic and document. Embedding is not counted: vectors
are drawn while nothing is timed. A search is hybrid: words, vector, and reading what was found.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import median, quantiles

import asyncpg
import numpy as np
import psutil
import uvloop
from numpy.typing import NDArray

from backend.embedded.data_folder import owned_folder
from backend.embedded.postgres import EmbeddedPostgres
from backend.records.migrate import upgrade
from knowledge_base.documents import Chunk, Found, Parsed, Raw
from knowledge_base.embedding.base import EmbeddingModel
from knowledge_base.filters import Filter, Leaf
from knowledge_base.stores.base import Ready, Store
from knowledge_base.stores.opening import StoreKind, create_base, open_store
from tests.contract.knowledge_rows import chroma_server

DIMENSION = 256
TOPICS, WORDS, TOPIC_WORDS = 1000, 60_000, 200
CHUNKS_PER_DOCUMENT, WORDS_PER_CHUNK = 10, 72
PER_PUT = 50  # documents
K = 10  # passages that are read
CANDIDATES = 50  # of each leg
ROUNDS = 300


@dataclass
class Figures:
    """Of one store."""

    store: str
    chunks: int
    load_s: float = 0.0
    puts_s: float = 0.0  # of it, before the graph is built and words are merged
    peak_mib: float = 0.0
    database_mib: float = 0.0
    put_ms: float = 0.0  # one document more, ten chunks, everything at once searchable
    delete_ms: float = 0.0
    search_ms: dict[str, tuple[float, float]] = field(default_factory=dict)
    recall: dict[str, float] = field(default_factory=dict)


class World:
    """Documents that are the same at each draw."""

    def __init__(self, chunks: int) -> None:
        self.documents = chunks // CHUNKS_PER_DOCUMENT
        draw = np.random.default_rng(7)
        self.vocabulary = np.array([_word(n) for n in range(WORDS)])
        common = 1.0 / np.arange(1, WORDS + 1) ** 1.05
        self.common = (common / common.sum()).cumsum()
        self.topics = draw.integers(200, WORDS, size=(TOPICS, TOPIC_WORDS))
        # Real embeddings use few of their dimensions.
        self.frame = draw.normal(size=(48, DIMENSION)) / 7
        self.centres = draw.normal(size=(TOPICS, 48))

    def document(self, number: int) -> Ready:
        """One of ten chunks, with its vectors."""
        draw = np.random.default_rng((11, number))
        topic = number % TOPICS
        size = CHUNKS_PER_DOCUMENT * WORDS_PER_CHUNK
        plain = np.searchsorted(self.common, draw.random(size))
        own = self.topics[topic][(draw.random(size) ** 2 * TOPIC_WORDS).astype(int)]
        words = self.vocabulary[np.where(draw.random(size) < 0.3, own, np.minimum(plain, WORDS - 1))]
        texts = [" ".join(words[n : n + WORDS_PER_CHUNK]) for n in range(0, size, WORDS_PER_CHUNK)]
        chunks, at = [], 0
        for ordinal, text in enumerate(texts):
            chunks.append(Chunk(ordinal, at, at + len(text), text, section=f"Part {ordinal}"))
            at += len(text) + 1
        text = "\n".join(texts)
        found = Found(f"d{number:06}", f"file:///bench/{number}.txt", f"{number}.txt", len(text), "1")
        attributes = {"percent": float(number % 100), "half": "a" if number % 2 else "b", "topic": f"t{topic}"}
        parsed = Parsed(text, f"Document {number}", "text/plain", attributes)
        return Ready("bench", found.doc_id, Raw(found, text.encode()), parsed, chunks, self.vectors(number))

    def vectors(self, number: int) -> NDArray[np.float32]:
        """Of the chunks of a document, each of length 1."""
        draw = np.random.default_rng((13, number))
        centre = self.centres[number % TOPICS] + 0.5 * draw.normal(size=48)
        inner = centre + 0.5 * draw.normal(size=(CHUNKS_PER_DOCUMENT, 48))
        found = inner @ self.frame + 0.1 * draw.normal(size=(CHUNKS_PER_DOCUMENT, DIMENSION))
        unit: NDArray[np.float32] = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
        return unit

    def batches(self) -> Iterator[list[Ready]]:
        """All of them, some at a time."""
        for first in range(0, self.documents, PER_PUT):
            yield [self.document(n) for n in range(first, min(first + PER_PUT, self.documents))]

    def question(self, number: int) -> tuple[str, NDArray[np.float32]]:
        """Three words of a topic among five that everybody uses; a vector near one of its documents."""
        draw = np.random.default_rng((17, number))
        document = int(draw.integers(self.documents))
        rare = self.topics[document % TOPICS][draw.integers(0, TOPIC_WORDS // 2, 3)]
        asked = " ".join([*self.vocabulary[rare], *self.vocabulary[draw.integers(0, 40, 5)]])
        near = self.vectors(document)[0] + 0.02 * draw.normal(size=DIMENSION)
        return asked, (near / np.linalg.norm(near)).astype(np.float32)


def _word(number: int) -> str:
    """Letters of two to nine, shorter for the common ones."""
    consonants, vowels = "bcdfghjklmnprstvwz", "aeiou"
    parts: list[str] = []
    left = number
    while left or not parts:
        left, c = divmod(left, len(consonants))
        left, v = divmod(left, len(vowels))
        parts.append(consonants[c] + vowels[v])
    return "".join(parts) + ("n" if number % 3 else "")


async def load(store: Store, world: World, figures: Figures) -> None:
    """A first load."""
    spent = 0.0
    async with AsyncExitStack() as stack:
        began = time.perf_counter()
        await stack.enter_async_context(store.bulk())
        spent += time.perf_counter() - began
        batches = world.batches()
        # Two at a time, as the loader does: one makes its words while the other one writes.
        while pair := list(islice(batches, 2)):
            began = time.perf_counter()
            await asyncio.gather(*map(store.put, pair))
            spent += time.perf_counter() - began
            figures.peak_mib = max(figures.peak_mib, psutil.Process().memory_info().rss / 2**20)
        figures.puts_s = spent
        began = time.perf_counter()
    figures.load_s = spent + time.perf_counter() - began


async def later(store: Store, world: World, figures: Figures, times: int) -> None:
    """Single documents, when all the others are there."""
    puts, deletes = [], []
    for n in range(times):
        ready = world.document(world.documents + n)
        began = time.perf_counter()
        await store.put([ready])
        puts.append(time.perf_counter() - began)
    for n in range(times):
        began = time.perf_counter()
        await store.delete([f"d{world.documents + n:06}"])
        deletes.append(time.perf_counter() - began)
    figures.put_ms, figures.delete_ms = median(puts) * 1000, median(deletes) * 1000


async def search(store: Store, asked: str, near: NDArray[np.float32], where: Filter | None) -> None:
    """Both legs, and the text of the best."""
    by_word, by_vector = await store.by_word(asked, CANDIDATES, where), await store.by_vector(near, CANDIDATES, where)
    best = list(dict.fromkeys([*by_vector.chunks[:K].tolist(), *by_word.chunks[:K].tolist()]))
    assert await store.read(best)


FILTERS: dict[str, Filter | None] = {
    "no filter": None,
    "1 % filter": Leaf("equals", "percent", 42.0),
    "50 % filter": Leaf("equals", "half", "a"),
    "one topic": Leaf("equals", "topic", "t77"),  # far from nearly every question
}


async def searches(store: Store, world: World, figures: Figures, rounds: int) -> None:
    """One after the other."""
    for name, where in FILTERS.items():
        taken = []
        for n in range(rounds + 20):
            asked, near = world.question(n)
            began = time.perf_counter()
            await search(store, asked, near, where)
            taken.append((time.perf_counter() - began) * 1000)
        figures.search_ms[name] = (median(taken[20:]), quantiles(taken[20:], n=100)[94])


async def recalls(store: Store, world: World, figures: Figures, rounds: int) -> None:
    """Of the ten that are nearest, compared one by one at full precision, the share that was found."""
    everything = np.concatenate([world.vectors(n) for n in range(world.documents)])
    owner = np.repeat(np.arange(world.documents), CHUNKS_PER_DOCUMENT)
    fits = {
        "no filter": np.ones(len(owner), bool),
        "1 % filter": owner % 100 == 42,
        "50 % filter": owner % 2 == 1,
        "one topic": owner % TOPICS == 77,
    }
    for name, mask in fits.items():
        places = np.flatnonzero(mask)
        among, found = everything[places], 0
        for n in range(rounds):
            _, near = world.question(n)
            wanted = places[np.argsort(-(among @ near))[:K]]
            hits = await store.by_vector(near, CANDIDATES, FILTERS[name])
            got = {(each.doc_id, each.section) for each in await store.read(hits.chunks[:K].tolist())}
            found += sum((f"d{owner[w]:06}", f"Part {w % CHUNKS_PER_DOCUMENT}") in got for w in wanted)
        figures.recall[name] = found / (rounds * min(K, len(places)))


@contextmanager
def folder_for_both() -> Iterator[Path]:
    """One that the account PostgreSQL runs as can reach, too."""
    with tempfile.TemporaryDirectory(prefix="outcrop-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder


@asynccontextmanager
async def database(folder: Path) -> AsyncIterator[str]:
    """The embedded PostgreSQL, durable, with the schema."""
    with owned_folder(folder, "bench") as data:
        postgres = EmbeddedPostgres(data)
        await postgres.start()
        try:
            await upgrade(postgres.url)
            yield postgres.url
        finally:
            await postgres.stop()


async def measured(kind: StoreKind, world: World, chunks: int, rounds: int) -> Figures:
    """All figures of one store."""
    figures = Figures(kind, chunks)
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(folder_for_both())
        url = await stack.enter_async_context(database(folder / "data"))
        chroma = None
        if kind == "chroma":
            chroma = stack.enter_context(chroma_server(folder))
        pool = await stack.enter_async_context(asyncpg.create_pool(url, min_size=1, max_size=4, command_timeout=10))
        base = await create_base(pool, "bench", "default")
        store = await open_store(pool, base, EmbeddingModel("bench:drawn", DIMENSION), {}, kind, chroma)
        await load(store, world, figures)
        figures.database_mib = await pool.fetchval("SELECT pg_database_size(current_database()) / 2^20")
        await searches(store, world, figures, rounds)
        await recalls(store, world, figures, rounds)
        await later(store, world, figures, 20)
    return figures


def shown(all_figures: Sequence[Figures]) -> str:
    """As a table."""
    rows: list[tuple[str, list[str]]] = [
        ("first load, chunks/s", [f"{each.chunks / each.load_s:,.0f}" for each in all_figures]),
        ("  of it puts, s", [f"{each.puts_s:.1f}" for each in all_figures]),
        ("  of it graph and merge, s", [f"{each.load_s - each.puts_s:.1f}" for each in all_figures]),
        ("peak memory of the process, MiB", [f"{each.peak_mib:.0f}" for each in all_figures]),
        ("database, MiB", [f"{each.database_mib:.0f}" for each in all_figures]),
        ("one document more (10 chunks), ms", [f"{each.put_ms:.1f}" for each in all_figures]),
        ("  and deleted, ms", [f"{each.delete_ms:.1f}" for each in all_figures]),
    ]
    for name in FILTERS:
        median_p95 = [f"{each.search_ms[name][0]:.1f} / {each.search_ms[name][1]:.1f}" for each in all_figures]
        rows.append((f"hybrid search, {name}: median / p95, ms", median_p95))
    for name in FILTERS:
        rows.append((f"recall@{K} of the vectors, {name}", [f"{each.recall[name]:.4f}" for each in all_figures]))
    head = f"{all_figures[0].chunks:,} chunks".ljust(48) + "".join(each.store.rjust(16) for each in all_figures)
    return "\n".join([head, *(name.ljust(48) + "".join(value.rjust(16) for value in values) for name, values in rows)])


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--chunks", type=int)
    parser.add_argument("--stores", default="pgvector,chroma")
    parser.add_argument("--json", type=Path, dest="path")
    arguments = parser.parse_args()
    chunks = arguments.chunks or (10_000 if arguments.quick else 100_000)
    world = World(chunks)
    kinds: list[StoreKind] = arguments.stores.split(",")
    rounds = 100 if arguments.quick else ROUNDS
    found = [uvloop.run(measured(kind, world, chunks, rounds)) for kind in kinds]
    print(shown(found))
    if arguments.path:
        body = {each.store: vars(each) for each in found}
        arguments.path.with_suffix(".knowledge.json").write_text(json.dumps(body, indent=2), "utf-8")


if __name__ == "__main__":
    main()
