"""`outcrop kb eval`: how good retrieval is, on the shipped questions or on a set of your own."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backend.cli.serve import complain

if TYPE_CHECKING:
    from rich.progress import Progress

    from backend.evaluation.knowledge_report import KnowledgeReport
    from backend.settings import Settings
    from knowledge_base.bases import KnowledgeBase
    from knowledge_base.evaluation.run import Measured
    from knowledge_base.evaluation.sets import EvaluationSet
    from knowledge_base.retrieval.base import Mode

EXIT_FAILED, EXIT_UNUSABLE, EXIT_STOPPED = 1, 2, 130
DEPTH = 10  # documents that the figures look at


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to measure. `passages` is how many a search is asked for: a document may have several."""

    modes: tuple[Mode, ...]
    passages: int
    min_score: float | None


def evaluate(
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="A set as BEIR has them: corpus.jsonl, queries.jsonl, qrels.tsv. Without it, the shipped set."
        ),
    ] = None,
    documents: Annotated[
        Path | None, typer.Option("--documents", "--corpus", metavar="PATH", help="JSONL, or a folder of documents.")
    ] = None,
    queries: Annotated[Path | None, typer.Option(metavar="PATH", help="Questions: JSONL.")] = None,
    qrels: Annotated[Path | None, typer.Option(metavar="PATH", help="Which documents answer: TSV or JSONL.")] = None,
    mode: Annotated[
        list[str] | None, typer.Option(metavar="MODE", help="Only lexical, vector or hybrid; may be given twice.")
    ] = None,
    k: Annotated[int, typer.Option("--k", min=1, max=100, help="Passages that a search is asked for.")] = 20,
    min_score: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Leave out passages below this; otherwise as searches do.")
    ] = None,
    worst: Annotated[int, typer.Option(min=0, help="Show so many of the questions that went wrong.")] = 10,
    json_path: Annotated[Path | None, typer.Option("--json", metavar="PATH", help="Write the report here.")] = None,
    html_path: Annotated[
        Path | None, typer.Option("--html", metavar="PATH", help="Write the report as one page for a browser.")
    ] = None,
    fail_under: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIGURE=SHARE", help="Exit with 1 below this, for instance ndcg@10=0.9 or unanswerable=1."
        ),
    ] = None,
) -> None:
    """Load a set of documents into a base of its own, ask its questions, and say how often the right one was found.

    With DATABASE_URL in that database, otherwise in one that is started for it. Nothing stays there.
    """
    sys.exit(
        _evaluate(
            folder, (documents, queries, qrels), mode or [], k, min_score, worst, json_path, html_path, fail_under or []
        )
    )


def _evaluate(
    folder: Path | None,
    files: tuple[Path | None, Path | None, Path | None],
    modes: Sequence[str],
    k: int,
    min_score: float | None,
    worst: int,
    json_path: Path | None,
    html_path: Path | None,
    fail_under: Sequence[str],
) -> int:
    import asyncpg
    from rich.console import Console

    from backend.embedded.data_folder import EmbeddedError
    from backend.evaluation import knowledge_report as report
    from backend.settings import SettingsError, load_settings
    from knowledge_base.errors import KnowledgeError

    try:
        floors = _floors(fail_under)
        for path in filter(None, (json_path, html_path)):
            if not path.parent.is_dir() or path.is_dir():
                raise typer.BadParameter(f"the report cannot be written to {path}: name a file in an existing folder")
        chosen = _set(folder, files)
        wanted = Wanted(_modes(modes), k, min_score)
        result = asyncio.run(_measure(chosen, wanted, load_settings()))
    except SettingsError as error:
        return _unusable("The configuration cannot be used:", *str(error).splitlines())
    except (KnowledgeError, EmbeddedError, typer.BadParameter) as error:
        return _unusable(str(error))
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError):
        return _unusable("The database at DATABASE_URL has not the newest schema. `outcrop migrate` brings it.")
    except asyncpg.PostgresError as error:
        return _unusable(f"PostgreSQL refuses: {error}")
    except (KeyboardInterrupt, asyncio.CancelledError):
        complain("Stopped. What was loaded for the evaluation has been removed.")
        return EXIT_STOPPED
    console = Console(highlight=False)
    console.print(report.summary(result))
    console.print(report.worst(result, worst), soft_wrap=True)
    if json_path:
        json_path.write_text(json.dumps(report.as_json(result), indent=2, ensure_ascii=False), "utf-8")
    if html_path:
        html_path.write_text(report.render(result), "utf-8")
    return _below(result, floors)


def _set(folder: Path | None, files: tuple[Path | None, Path | None, Path | None]) -> EvaluationSet:
    from knowledge_base.evaluation.sets import find_set, read_set, shipped

    documents, queries, qrels = files
    if folder is None and documents is None and queries is None and qrels is None:
        return shipped()
    if folder is not None:
        if any(files):
            raise typer.BadParameter("name a folder, or --documents, --queries and --qrels, not both")
        return find_set(folder)
    if documents is None or queries is None or qrels is None:
        raise typer.BadParameter("a set of your own needs all of --documents, --queries and --qrels")
    return read_set(documents, queries, qrels)


def _modes(names: Sequence[str]) -> tuple[Mode, ...]:
    from knowledge_base.evaluation.run import MODES

    unknown = [name for name in names if name not in MODES]
    if unknown:
        raise typer.BadParameter(f"--mode {unknown[0]}: there are {', '.join(MODES)}")
    return tuple(mode for mode in MODES if not names or mode in names)


def _floors(given: Sequence[str]) -> dict[str, float]:
    from backend.evaluation.knowledge_report import FIGURES

    floors = {}
    for each in given:
        name, _, share = each.partition("=")
        if name not in FIGURES:
            raise typer.BadParameter(f"--fail-under {each}: there are {', '.join(FIGURES)}")
        try:
            floors[name] = float(share)
        except ValueError:
            raise typer.BadParameter(f"--fail-under {each}: wants a figure and a share, as in ndcg@10=0.9") from None
    return floors


def _below(result: KnowledgeReport, floors: Mapping[str, float]) -> int:
    from backend.evaluation.knowledge_report import figures_of

    found = figures_of(result.headline)
    missed = [f"{name} is {found[name]:.4f}, below {floor:g}." for name, floor in floors.items() if found[name] < floor]
    if missed:
        complain(*missed)
    return EXIT_FAILED if missed else 0


async def _measure(chosen: EvaluationSet, wanted: Wanted, settings: Settings) -> KnowledgeReport:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    from backend.evaluation.knowledge_report import KnowledgeReport
    from backend.knowledge import environment, knowledge_bases
    from knowledge_base.evaluation.reading import documents_of, size_of
    from knowledge_base.evaluation.run import Progress as Filled
    from knowledge_base.evaluation.run import fill
    from knowledge_base.evaluation.scratch import scratch_base

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    notes = list(chosen.notes)
    running = asyncio.current_task()
    assert running is not None
    # As Ctrl-C does: what was loaded is removed.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    async with (
        _database(settings) as url,
        knowledge_bases(settings, url) as bases,
        scratch_base(bases) as base,
    ):
        limits = environment(settings, url).limits
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            filled, begun = Filled(0, 0, 0), time.perf_counter()
            bar = progress.add_task("loading", total=size_of(chosen.documents))
            async for filled in fill(base, documents_of(chosen.documents, limits, notes.append)):
                progress.update(bar, completed=filled.size)
            progress.update(bar, visible=False)
            took = time.perf_counter() - begun
            measured = [await _ask(base, chosen, mode, wanted, progress) for mode in _possible(base, wanted.modes)]
        summary = await base.store.summary()
    return KnowledgeReport(
        name=chosen.name,
        documents=filled.documents,
        chunks=filled.chunks,
        store=summary.store,
        model=f"{summary.model.name} ({summary.model.dimension})" if summary.model else "",
        chunking=base.chunking.as_json(),
        load_s=took,
        modes=tuple(sorted(measured, key=lambda each: each.mode != "hybrid")),
        notes=tuple(notes),
    )


async def _ask(base: KnowledgeBase, chosen: EvaluationSet, mode: Mode, wanted: Wanted, progress: Progress) -> Measured:
    from knowledge_base.evaluation.run import Measured, ask

    bar = progress.add_task(mode, total=len(chosen.judged))
    answers = []
    async for answer in ask(base, chosen.judged, mode, k=wanted.passages, min_score=wanted.min_score):
        answers.append(answer.upto(DEPTH))
        progress.advance(bar)
    return Measured(mode, tuple(answers))


def _possible(base: KnowledgeBase, modes: tuple[Mode, ...]) -> tuple[Mode, ...]:
    """Without an embedding model there are words alone."""
    return modes if base.embedder else ("lexical",)


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[str]:
    """The configured database, or one that is started for this."""
    from backend.evaluation.stack import throwaway_database

    if settings.database_url:
        yield settings.database_url
        return
    async with throwaway_database() as url:
        yield url


def _unusable(*lines: str) -> int:
    complain(*lines)
    return EXIT_UNUSABLE
