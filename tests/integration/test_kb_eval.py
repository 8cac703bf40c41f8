"""`outcrop kb eval` on a real database: figures, what is left behind, and what is said of a set that cannot be used."""

import asyncio
import json
from pathlib import Path

import asyncpg
import pytest
import typer
from typer.testing import CliRunner

from backend.cli.kb_eval import evaluate
from knowledge_base.bases import KnowledgeConfig, opened
from knowledge_base.embedding.opening import EmbeddingConfig
from knowledge_base.evaluation.reading import documents_of
from knowledge_base.evaluation.run import fill
from knowledge_base.evaluation.scratch import scratch_base
from knowledge_base.evaluation.sets import CONTENT
from knowledge_base.parsing import Limits

LEFT = "SELECT (SELECT count(*) FROM kb_bases) + (SELECT count(*) FROM kb_documents) + (SELECT count(*) FROM kb_chunks)"

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(evaluate)


@pytest.fixture(autouse=True)
def _configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database_url: str) -> None:
    """The test's database; nothing of a `.env`, and no model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("KB_EMBEDDING", "none")


async def rows_left(database_url: str) -> int:
    """Bases, documents and chunks of anybody."""
    connection = await asyncpg.connect(database_url)
    try:
        return int(await connection.fetchval(LEFT))
    finally:
        await connection.close()


def test_the_shipped_set_is_measured_and_nothing_stays(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the embedded model the right document first for 95 %, and nothing where nothing answers.

    A figure below what is wanted is exit code 1.
    """
    monkeypatch.delenv("KB_EMBEDDING")
    report, page = tmp_path / "report.json", tmp_path / "report.html"
    ran = CliRunner().invoke(app, ["--json", str(report), "--html", str(page), "--fail-under", "unanswerable=1.01"])
    assert ran.exit_code == 1, ran.output
    assert "unanswerable is" in ran.output
    body = json.loads(report.read_text("utf-8"))
    assert (body["set"], body["mode"], body["documents"], body["questions"]) == ("shipped", "hybrid", 24, 77)
    assert set(body["modes"]) == {"lexical", "vector", "hybrid"}
    assert body["unanswerable"] == {"questions": 5, "correct": 5}
    assert body["model"].startswith("embedded:")
    assert body["recall@1"] >= 0.95
    assert body["recall@1"] <= body["mrr"] <= 1
    assert body["ndcg@10"] >= 0.95
    assert body["nothing_found"] == 0
    assert "<svg" in page.read_text("utf-8")
    assert asyncio.run(rows_left(database_url)) == 0


async def test_the_base_goes_when_the_run_is_stopped(database_url: str) -> None:
    """Ctrl-C cancels: what was stored by then is removed."""
    stored = asyncio.Event()

    async def evaluation() -> None:
        config = KnowledgeConfig(embedding=EmbeddingConfig(kind="none"))
        async with opened(database_url, config) as bases, scratch_base(bases) as base:
            async for _ in fill(base, documents_of(CONTENT, Limits(), pytest.fail)):
                stored.set()
            await asyncio.Event().wait()

    running = asyncio.create_task(evaluation())
    await asyncio.wait_for(stored.wait(), 20)
    assert await rows_left(database_url) > 24
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await rows_left(database_url) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere: holds no documents; looked for corpus.jsonl"),
        (["--documents", "corpus.jsonl"], "needs all of --documents, --queries and --qrels"),
        (["set", "--queries", "q.jsonl"], "not both"),
        (["set"], "corpus.jsonl, line 2: lacks the field `text`"),
        (["--mode", "magic"], "there are lexical, vector, hybrid"),
        (["--fail-under", "mrr=high"], "wants a figure and a share"),
        (["--fail-under", "speed=1"], "there are recall@1"),
        (["--json", "no/such/folder.json"], "cannot be written"),
    ],
)
def test_what_cannot_be_run_is_told_in_a_line(
    arguments: list[str], said: str, tmp_path: Path, database_url: str
) -> None:
    """Exit code 2, and nothing left even when it shows half-way through the documents."""
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "corpus.jsonl").write_text('{"_id": "a", "text": "fine"}\n{"_id": "b"}\n')
    (folder / "queries.jsonl").write_text('{"_id": "q", "text": "?"}\n')
    (folder / "qrels.tsv").write_text("q\ta\t1\n")
    ran = CliRunner().invoke(app, arguments)
    assert ran.exit_code == 2, ran.output
    assert said in ran.output
    assert "Traceback" not in ran.output
    assert asyncio.run(rows_left(database_url)) == 0
