"""`outcrop eval`: run scenario files and judge what happens."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from agent.definition import load_definition
from backend.embedded import EmbeddedError
from backend.evaluation import page, report
from backend.evaluation.comparison import Results
from backend.evaluation.routes import STAND_IN, Route, RouteError, Tapes, routes_of
from backend.evaluation.run import Knowledge, OpenSubject, Outcome, Subject, Task, run_all
from backend.evaluation.scenario import ScenarioError, ScenarioFile, load_scenarios
from backend.evaluation.simulator_admin import JsonObject, SimulatorError
from backend.evaluation.stack import Patience, Stores, stack, subject, throwaway_stores
from backend.settings import Settings, SettingsError, load_settings

_DOC_ID = re.compile(r"^doc_id: *(\S+) *$", re.MULTILINE)
DOCUMENTS = Path(__file__).parents[2] / "knowledge_base" / "content"
EXIT_FAILED, EXIT_UNUSABLE = 1, 2
NO_KEY_NEEDED = {"llm_api_key": STAND_IN}
SLOW = re.compile(r"slow:(\d+)")


def main(arguments: Sequence[str]) -> int:
    """The sub-command: its arguments in, its exit code out (0 good enough, 1 not, 2 could not be run)."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(evaluate)
    try:
        app(list(arguments), prog_name="outcrop eval")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else EXIT_UNUSABLE
    return 0


class CannotEvaluate(Exception):
    """The evaluation could not take place; says why."""


def evaluate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Scenario files (YAML).")],
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="PATH", help="Write the whole report here.")
    ] = None,
    html_path: Annotated[
        Path | None, typer.Option("--html", metavar="PATH", help="Write the report as one page for a browser.")
    ] = None,
    route_names: Annotated[
        list[str] | None,
        typer.Option(
            "--route",
            metavar="NAME",
            help="Be answered by this route of MODELS_FILE (without one: by this LLM_PROVIDER). Several are run side "
            "by side and compared.",
        ),
    ] = None,
    record: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Record what the models answer, in this new folder.")
    ] = None,
    replay: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Answer from such a recording. No model is asked.")
    ] = None,
    tags: Annotated[str, typer.Option(metavar="A,B", help="Only scenarios with one of these tags.")] = "",
    skip_tags: Annotated[str, typer.Option(metavar="A,B", help="No scenario with one of these tags.")] = "",
    ids: Annotated[str, typer.Option(metavar="A,B", help="Only these scenarios.")] = "",
    minimum: Annotated[
        float | None,
        typer.Option(
            "--min",
            min=0.0,
            max=1.0,
            metavar="SHARE",
            help="Be content with this share of passed scenarios on each route, as long as nothing wrong was written "
            "and no rule of D1 to D7 was broken. Without it, any failure exits with 1.",
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, max=15, help="How many isolated stacks to start, shared out among the routes.")
    ] = 3,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Run one after the other against this running server. Its simulator, at PF360_ADMIN_URL with "
            "PF360_ADMIN_SECRET or in the data folder, must run with PF360_CLOCK=fixture; its data are reset.",
        ),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print every conversation.")] = False,
) -> None:
    """Run scenario files against the product and judge every conversation."""
    console = Console(highlight=False)
    try:
        tasks = select(load_files(files), _names(tags), _names(skip_tags), _names(ids))
        settings = load_settings(**(NO_KEY_NEEDED if replay else {}))
        routes = routes_of(settings, route_names or [], replays=bool(replay))
        tapes = tapes_of(record, replay)
        if url and (route_names or tapes):
            raise CannotEvaluate("--route, --record and --replay are for stacks that the run starts, not for --url.")
        for path in filter(None, (json_path, html_path)):
            if not path.parent.is_dir() or path.is_dir():
                raise CannotEvaluate(f"The report cannot be written to {path}: name a file in an existing folder.")
        if tapes:
            tapes.check([route.name for route in routes])
        plan = Run(tasks, settings, routes, jobs, tapes, url)
        results = asyncio.run(_run(plan, console, verbose))
    except (ScenarioError, SettingsError, EmbeddedError, SimulatorError, RouteError, CannotEvaluate) as error:
        Console(stderr=True, highlight=False).print(str(error), style="red", markup=False, soft_wrap=True)
        raise typer.Exit(EXIT_UNUSABLE) from error
    console.print(report.failures(results), soft_wrap=True)
    console.print(report.summary(results))
    if json_path:
        json_path.write_text(json.dumps(report.as_json(results), indent=2, ensure_ascii=False, default=str), "utf-8")
    if html_path:
        html_path.write_text(page.render(results), "utf-8")
    if not all(report.is_good_enough(outcomes, minimum) for outcomes in results.values()):
        raise typer.Exit(EXIT_FAILED)


@dataclass(frozen=True)
class Run:
    """What is to be run, and where: on stacks of each route, or on the server at `url`."""

    tasks: Sequence[Task]
    settings: Settings
    routes: Sequence[Route]
    jobs: int
    tapes: Tapes | None
    url: str | None


def tapes_of(record: Path | None, replay: Path | None) -> Tapes | None:
    """Whether model traffic is recorded or replayed; not both at once."""
    if record and replay:
        raise CannotEvaluate("--record and --replay exclude each other.")
    folder = record or replay
    return Tapes(folder, replays=replay is not None) if folder else None


def load_files(paths: Sequence[Path]) -> list[ScenarioFile]:
    """Read all files; `ScenarioError` names the faults of every one of them."""
    files, faults = [], []
    for path in paths:
        try:
            files.append(load_scenarios(path))
        except ScenarioError as error:
            faults.append(str(error))
    if faults:
        raise ScenarioError("\n".join(faults))
    return files


def select(files: Sequence[ScenarioFile], tags: set[str], skip: set[str], ids: set[str]) -> list[Task]:
    """The scenarios asked for, in the order of the files.

    Raises:
        CannotEvaluate: none is left, one of the ids does not exist, or one stands in two files.
    """
    tasks = [Task(file, scenario) for file in files for scenario in file.scenarios]
    unknown = ids - {task.scenario.id for task in tasks}
    if unknown:
        raise CannotEvaluate(f"There is no scenario {', '.join(sorted(unknown))}.")
    chosen = [
        task
        for task in tasks
        if (not ids or task.scenario.id in ids)
        and (not tags or tags & set(task.scenario.tags))
        and not skip & set(task.scenario.tags)
    ]
    if not chosen:
        raise CannotEvaluate("No scenario is left to run.")
    counts = Counter(task.scenario.id for task in chosen)
    if twice := sorted(key for key, count in counts.items() if count > 1):
        raise CannotEvaluate(f"The files have more than one scenario {', '.join(twice)}: run them one by one.")
    return chosen


async def _run(run: Run, console: Console, verbose: bool) -> Results:
    """The outcomes of every route, each in the order of the files."""
    results: dict[str, list[Outcome]] = {route.name: [] for route in run.routes}
    order = {id(task): position for position, task in enumerate(run.tasks)}
    with _progress(console) as progress:
        bar = progress.add_task("starting", total=len(run.tasks) * len(run.routes))
        async with _subjects(run) as subjects:

            async def collect(route: str) -> None:
                queue = run.tasks if run.url else _longest_first(run.tasks)
                async for outcome in run_all(queue, subjects[route], knowledge()):
                    results[route].append(outcome)
                    failed = sum(not each.verdict.passed for every in results.values() for each in every)
                    progress.update(bar, advance=1, description=f"{failed} failed" if failed else "all passed")
                    if verbose:
                        report.print_transcript(progress.console, outcome, route if len(results) > 1 else "")

            await _together(collect(route) for route in results)
    return {route: sorted(outcomes, key=lambda outcome: order[id(outcome.task)]) for route, outcomes in results.items()}


async def _together(work: Iterable[Coroutine[None, None, None]]) -> None:
    """All at once; the first failure ends the others, and is raised when they have cleaned up."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def running(settings: Settings, url: str) -> OpenSubject:
    """The server that runs at `url`, with the simulator of the configuration or else the data folder's."""
    if settings.pf360_admin_url and settings.pf360_admin_secret:
        return partial(_frozen, url, settings.pf360_admin_url, settings.pf360_admin_secret.get_secret_value())
    folder = settings.outcrop_data_dir
    try:
        port = (folder / "simulator.port").read_text("utf-8").strip()
        secret = json.loads((folder / "simulator.json").read_text("utf-8"))["admin_secret"]
    except (OSError, ValueError, KeyError) as error:
        raise CannotEvaluate(
            f"--url needs PF360_ADMIN_URL and PF360_ADMIN_SECRET: there is no simulator in {folder}."
        ) from error
    return partial(_frozen, url, f"http://127.0.0.1:{port}", secret)


@asynccontextmanager
async def _frozen(url: str, admin_url: str, secret: str) -> AsyncIterator[Subject]:
    """A running product whose clock stands still, as every date in the scenarios presumes."""
    async with subject(url, admin_url, secret) as found:
        clock = await found.simulator.clock()
        if clock["mode"] != "fixture":
            raise CannotEvaluate(
                f"The simulator at {admin_url} follows the real clock: start it with PF360_CLOCK=fixture."
            )
        yield found


@asynccontextmanager
async def _subjects(run: Run) -> AsyncIterator[dict[str, list[OpenSubject]]]:
    """Ways to open as many isolated stacks as are of use, for each route."""
    if run.url:
        yield {route.name: [running(run.settings, run.url)] for route in run.routes}
        return
    seed, patience = _seed(run.tasks), _patience(run.tasks)
    each = min(max(1, run.jobs // len(run.routes)), len(run.tasks))
    async with throwaway_stores(each * len(run.routes)) as stores:
        yield {
            route.name: [
                _stack(run, route, part, position * each, stores, patience, seed) for part in range(1, each + 1)
            ]
            for position, route in enumerate(run.routes)
        }


def _stack(
    run: Run, route: Route, part: int, before: int, stores: Stores, patience: Patience, seed: JsonObject | None
) -> OpenSubject:
    """The part-th stack of a route, before whose stacks there are some of other routes."""
    tape = run.tapes.of(route.name, part) if run.tapes else {}
    return partial(stack, before + part, stores, patience, {**route.environment, **tape}, seed)


def _seed(tasks: Sequence[Task]) -> JsonObject | None:
    """The seed data that the files bring along, for the product's locations and personas."""
    seeds = [task.file.fixture for task in tasks if task.file.inline]
    directories = {
        json.dumps([seed.get("clients"), seed.get("personas")], sort_keys=True, default=str) for seed in seeds
    }
    if len(directories) > 1:
        raise CannotEvaluate("The files bring different locations or personas along: run them one by one.")
    return seeds[0] if seeds else None


def _patience(tasks: Sequence[Task]) -> Patience:
    """As much as the slowest right answer of any scenario takes."""
    modes = [SLOW.fullmatch(fault.mode) for task in tasks for fault in task.scenario.faults]
    return Patience.beyond(max((int(mode[1]) / 1000 for mode in modes if mode), default=0.0))


def _longest_first(tasks: Sequence[Task]) -> list[Task]:
    """Conversations that wait for time-outs begin early, so that the last stack is not left alone with one."""
    return sorted(tasks, key=lambda task: (-len(task.scenario.faults), -len(task.scenario.turns)))


def knowledge() -> Knowledge:
    """Documents that replies may cite, by id, and what the agent is told."""
    texts = [(path, path.read_text("utf-8")) for path in sorted(DOCUMENTS.glob("**/*.md"))]
    documents = {named[1] if (named := _DOC_ID.search(text)) else path.stem: text for path, text in texts}
    return Knowledge(documents, (load_definition().file.instructions,))


def _progress(console: Console) -> Progress:
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


def _names(text: str) -> set[str]:
    return {part.strip() for part in text.split(",") if part.strip()}
