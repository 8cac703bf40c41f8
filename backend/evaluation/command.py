"""`outcrop eval`: run scenario files and judge what happens."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from agent.definition import load_definition
from backend.embedded import EmbeddedError
from backend.evaluation import report
from backend.evaluation.run import Knowledge, OpenSubject, Outcome, Subject, Task, run_all
from backend.evaluation.scenario import ScenarioError, ScenarioFile, load_scenarios
from backend.evaluation.simulator_admin import SimulatorError
from backend.evaluation.stack import Patience, model_environment, stack, subject, throwaway_stores
from backend.settings import Settings, SettingsError, load_settings

DOCUMENTS = Path(__file__).parents[2] / "knowledge_base" / "content"
EXIT_FAILED, EXIT_UNUSABLE = 1, 2
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
            help="Be content with this share of passed scenarios, as long as nothing wrong was written and no rule of "
            "D1 to D7 was broken. Without it, any failure exits with 1.",
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=15, help="How many isolated stacks to start.")] = 3,
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
        settings = load_settings()
        outcomes = asyncio.run(_run(tasks, settings, jobs, url, console, verbose))
    except (ScenarioError, SettingsError, EmbeddedError, SimulatorError, CannotEvaluate) as error:
        Console(stderr=True, highlight=False).print(str(error), style="red", markup=False, soft_wrap=True)
        raise typer.Exit(EXIT_UNUSABLE) from error
    console.print(report.failures(outcomes), soft_wrap=True)
    console.print(report.summary(outcomes))
    if json_path:
        json_path.write_text(json.dumps(report.as_json(outcomes), indent=2, ensure_ascii=False, default=str), "utf-8")
    if not report.is_good_enough(outcomes, minimum):
        raise typer.Exit(EXIT_FAILED)


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
        CannotEvaluate: none is left, or one of the ids does not exist.
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
    return chosen


async def _run(
    tasks: list[Task], settings: Settings, jobs: int, url: str | None, console: Console, verbose: bool
) -> list[Outcome]:
    outcomes: list[Outcome] = []
    order = {id(task): position for position, task in enumerate(tasks)}
    async with AsyncExitStack() as cleanup:
        with _progress(console) as progress:
            bar = progress.add_task("starting", total=len(tasks))
            subjects = [running(settings, url)] if url else await _stacks(tasks, settings, jobs, cleanup)
            queue = tasks if url else _longest_first(tasks)
            async for outcome in run_all(queue, subjects, knowledge()):
                outcomes.append(outcome)
                failed = sum(not each.verdict.passed for each in outcomes)
                progress.update(bar, advance=1, description=f"{failed} failed" if failed else "all passed")
                if verbose:
                    report.print_transcript(progress.console, outcome)
    return sorted(outcomes, key=lambda outcome: order[id(outcome.task)])


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


async def _stacks(tasks: Sequence[Task], settings: Settings, jobs: int, cleanup: AsyncExitStack) -> list[OpenSubject]:
    """Ways to open as many isolated stacks as are of use."""
    count = min(jobs, len(tasks))
    seeds = [task.file.fixture for task in tasks if task.file.inline]
    directories = {
        json.dumps([seed.get("clients"), seed.get("personas")], sort_keys=True, default=str) for seed in seeds
    }
    if len(directories) > 1:
        raise CannotEvaluate("The files bring different locations or personas along: run them one by one.")
    stores = await cleanup.enter_async_context(throwaway_stores(count))
    modes = [SLOW.fullmatch(fault.mode) for task in tasks for fault in task.scenario.faults]
    patience = Patience.beyond(max((int(mode[1]) / 1000 for mode in modes if mode), default=0.0))
    model, seed = model_environment(settings), seeds[0] if seeds else None
    return [partial(stack, number, stores, patience, model, seed) for number in range(1, count + 1)]


def _longest_first(tasks: Sequence[Task]) -> list[Task]:
    """Conversations that wait for time-outs begin early, so that the last stack is not left alone with one."""
    return sorted(tasks, key=lambda task: (-len(task.scenario.faults), -len(task.scenario.turns)))


def knowledge() -> Knowledge:
    """Documents that replies may cite, by id, and what the agent is told."""
    documents = {path.stem: path.read_text("utf-8") for path in sorted(DOCUMENTS.glob("**/*.md"))}
    return Knowledge(documents, (load_definition().file.instructions,))


def _progress(console: Console) -> Progress:
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


def _names(text: str) -> set[str]:
    return {part.strip() for part in text.split(",") if part.strip()}
