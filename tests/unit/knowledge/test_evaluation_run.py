"""From a set and a search to figures, and to what is told of them; searches are scripted here."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from io import StringIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from backend.evaluation.knowledge_report import (
    FIGURES,
    KnowledgeReport,
    as_json,
    figures_of,
    render,
    summary,
    worst,
)
from knowledge_base.chunking import ChunkingConfig
from knowledge_base.documents import embedded_text
from knowledge_base.embedding.base import EmbeddingModel, Vectors
from knowledge_base.evaluation import run
from knowledge_base.evaluation.reading import documents_of
from knowledge_base.evaluation.run import Measured, ask, fill
from knowledge_base.evaluation.sets import Question
from knowledge_base.parsing import Limits
from knowledge_base.retrieval.base import Passage, SearchResult
from knowledge_base.stores.base import Ready, Store

QUESTIONS = (
    Question("easy", "how <much>?", {"a": 2.0}),
    Question("second", "when?", {"b": 1.0, "c": 1.0}),
    Question("lost", "why?", {"z": 1.0}),
    Question("silent", "who?", {"a": 1.0}),
    Question("none", "what is the moon made of?", {}, answerable=False),
    Question("lured", "and the sun?", {}, answerable=False),
)
# Of each question the passages: document and score.
FOUND: Mapping[str, Sequence[tuple[str, float]]] = {
    "how <much>?": [("a", 0.9), ("a", 0.8), ("b", 0.3)],
    "when?": [("x", 0.7), ("b", 0.6), ("c", 0.5)],
    "why?": [("a", 0.4), ("b", 0.3)],
    "and the sun?": [("x", 0.6)],
}


class ScriptedBase:
    """Finds what the script says."""

    async def search(self, query: str, *, k: int = 5, mode: Any = "hybrid", **_: Any) -> SearchResult:
        """The passages of the script."""
        found = tuple(
            Passage(doc_id, 1, "", "", "", None, 0, 1, "x", score, "c") for doc_id, score in FOUND.get(query, ())[:k]
        )
        return SearchResult(query, mode, found, "ok" if found else "no_match", "")


async def measured() -> Measured:
    """The scripted answers to all questions."""
    return Measured("hybrid", tuple([each async for each in ask(ScriptedBase(), QUESTIONS, "hybrid")]))


@pytest.fixture
async def report() -> KnowledgeReport:
    """One mode over the script."""
    return KnowledgeReport(
        "set", 4, 7, "pgvector", "kind:name (8)", {"kind": "sections"}, 2.0, (await measured(),), ("odd",)
    )


async def test_figures_are_those_of_documents_and_not_of_passages() -> None:
    """Right at once, right at the second place, wrong, nothing: recall, MRR and nDCG are means over these four."""
    found = await measured()
    assert [each.ranking for each in found.answers[:2]] == [("a", "b"), ("x", "b", "c")]
    assert found.answers[0].scores == (0.9, 0.3)
    assert found.recall(1) == 1 / 4
    assert found.recall(3) == 2 / 4
    assert found.mrr() == (1 + 1 / 2) / 4
    second = (1 / np.log2(3) + 1 / np.log2(4)) / (1 + 1 / np.log2(3))
    assert found.ndcg() == pytest.approx((1 + second) / 4)
    assert [each.is_right for each in found.unanswerable] == [True, False]
    assert figures_of(found) == {
        "recall@1": 0.25, "recall@3": 0.5, "recall@5": 0.5, "recall@10": 0.5, "mrr": 0.375,
        "ndcg@10": pytest.approx((1 + second) / 4, abs=1e-4), "unanswerable": 0.5,
    }  # fmt: skip


async def test_what_went_wrong_is_listed_the_worst_first() -> None:
    """What was found for a question that nothing answers, then what is lost, then what is low."""
    assert [each.question.query_id for each in (await measured()).wrong()] == ["lured", "lost", "silent", "second"]


async def test_the_json_has_the_figures_on_top_and_by_mode(report: KnowledgeReport) -> None:
    """`recall@1`, `mrr` and `ndcg@10` are keys of the top level; nothing in it that JSON cannot hold."""
    body = json.loads(json.dumps(as_json(report)))
    assert (body["recall@1"], body["mrr"], body["mode"]) == (0.25, 0.375, "hybrid")
    assert 0 < body["ndcg@10"] == body["modes"]["hybrid"]["ndcg@10"] < 1
    assert body["unanswerable"] == {"questions": 2, "correct": 1}
    assert body["nothing_found"] == 1
    assert (body["documents"], body["chunks"], body["questions"], body["model"]) == (4, 7, 6, "kind:name (8)")
    assert body["latency_ms"]["p50"] <= body["latency_ms"]["p95"]
    assert body["wrong"][0]["found"] == [{"doc_id": "x", "score": 0.6}]


async def test_the_console_and_the_page_tell_the_same(report: KnowledgeReport) -> None:
    """Figures, notes, and what went wrong with its right documents; markup in a question is text."""
    console = Console(width=160, record=True, file=StringIO())
    console.print(summary(report), worst(report, 2))
    text, page = console.export_text(), render(report)
    for told in ("0.250", "0.375", "1/2", "odd", "kind:name (8)"):
        assert told in text, told
        assert told in page, told
    assert "found a 0.40, b 0.30; right: z (not found)" in text
    assert "and 2 more" in text
    assert "second" in page
    assert "x 0.70, b 0.60, c 0.50" in page
    assert page.count("<svg") == 3
    assert all(name in page for name in FIGURES)


class EmbedsLengths:
    """Two numbers a text."""

    model = EmbeddingModel("test:lengths", 2)

    async def documents(self, texts: Sequence[str]) -> Vectors:
        """The length of each."""
        return np.array([[len(text), 1.0] for text in texts], dtype=np.float32)


class KeepsPuts:
    """What was stored, put by put."""

    def __init__(self) -> None:
        self.puts: list[list[Ready]] = []
        self.is_bulk = False

    async def put(self, documents: Sequence[Ready]) -> None:
        """Keep them."""
        assert self.is_bulk
        self.puts.append(list(documents))

    @asynccontextmanager
    async def bulk(self) -> AsyncIterator[None]:
        """Note that it is open."""
        self.is_bulk = True
        yield
        self.is_bulk = False


class FilledBase:
    """A base whose store and embedder are those above."""

    def __init__(self) -> None:
        self.kept = KeepsPuts()
        self.embedder: Any = EmbedsLengths()
        self.chunking = ChunkingConfig(max_chars=100)

    @property
    def store(self) -> Store:
        """Only what filling needs."""
        return cast(Store, self.kept)


async def test_documents_are_stored_some_chunks_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than a batch is held; each document has its own rows of the vectors."""
    monkeypatch.setattr(run, "CHUNKS_AT_ONCE", 6)
    lines = [{"_id": f"d{n}", "title": f"T{n}", "text": "\n\n".join([f"word {n} " * 10] * (n + 1))} for n in range(5)]
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps(line) + "\n" for line in lines))
    base = FilledBase()
    told = [each async for each in fill(base, documents_of(corpus, Limits(), pytest.fail))]
    stored = [ready for put in base.kept.puts for ready in put]
    assert [ready.doc_id for ready in stored] == [f"d{n}" for n in range(5)]
    assert len(base.kept.puts) > 1
    assert all(sum(len(ready.chunks) for ready in put) <= 6 + len(put[-1].chunks) for put in base.kept.puts)
    assert (told[-1].documents, told[-1].chunks) == (5, sum(len(ready.chunks) for ready in stored))
    for ready in stored:
        vectors: NDArray[np.float32] | None = ready.vectors
        assert vectors is not None
        lengths = [len(embedded_text(ready.parsed.title, each)) for each in ready.chunks]
        assert vectors[:, 0].tolist() == lengths


async def test_a_folder_is_read_as_a_load_would(tmp_path: Path) -> None:
    """Ids come from front matter; a file that cannot be taken is told and left out."""
    (tmp_path / "one.md").write_text("---\ndoc_id: first\ntitle: One\n---\n\nText of it.\n")
    (tmp_path / "bad.pdf").write_bytes(b"%PDF-1.4 broken")
    refused: list[str] = []
    found = [parsed async for _, parsed in documents_of(tmp_path, Limits(), refused.append)]
    assert [(each.doc_id, each.title) for each in found] == [("first", "One")]
    assert [each.split()[0] for each in refused] == ["bad.pdf"]
