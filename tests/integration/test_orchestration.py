"""A run's steps put in order by this process, by Dagster and by Step Functions: the same base, the same report.

The state machine is the file that is deployed. moto executes it; its calls go to our Lambda service, which runs the
real handler under the runtime of AWS, over a real PostgreSQL.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest

from backend.lambdas.functions import CHECKOUT, Function, passed_environment
from knowledge_base.bases import opened
from knowledge_base.errors import InvalidRequest
from knowledge_base.loading.environment import read_environment
from knowledge_base.loading.jobs import Jobs
from knowledge_base.orchestration.in_process import run_in_process
from knowledge_base.orchestration.runs import read_run
from knowledge_base.orchestration.steps import steps_over
from tests.integration.lambda_service import running

INFRA = CHECKOUT / "infra"
MACHINE = INFRA / "step-functions" / "knowledge-base.asl.json"
Drive = Callable[[dict[str, Any]], Awaitable[None]]

# The deployed handler, but for documents that kill it and a database that is away once.
HANDLER = f"""
import importlib.util, os, pathlib
from knowledge_base.errors import StoreUnreachable

spec = importlib.util.spec_from_file_location("real", {str(CHECKOUT / "lambda" / "knowledge_loading" / "handler.py")!r})
real = importlib.util.module_from_spec(spec)
spec.loader.exec_module(real)
away = pathlib.Path(__file__).with_name("away")


def handler(event, context):
    documents = [document["doc_id"] for document in event.get("documents", ())]
    if "poison.md" in documents and len(documents) > 1:
        raise MemoryError("too much at once")
    if documents == ["poison.md"]:
        os._exit(9)
    if event["step"] == "load" and away.exists():
        away.unlink()
        raise StoreUnreachable("the database is away")
    return real.handler(event, context)
"""


@pytest.fixture
def environment(database_url: str) -> dict[str, str]:
    """What the steps are configured by: this database, and words alone."""
    return {"DATABASE_URL": database_url, "KB_EMBEDDING": "none"}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Six documents, and one that is none."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for n in range(6):
        (folder / f"doc-{n}.md").write_text(f"# Document {n}\n\nThis is what number {n} says.\n")
    (folder / "picture.md").write_bytes(bytes(range(256)) * 8)
    return folder


async def holds(environment: dict[str, str]) -> list[str]:
    """Live documents of the base."""
    async with opened(environment["DATABASE_URL"], read_environment(environment).config) as bases:
        base = await bases.open("default")
        return [each.doc_id for each in await base.store.documents()]


async def last_job(environment: dict[str, str]) -> tuple[str, dict[str, int], str | None, int]:
    """State, counts that are not 0, error and problems of the job that was put on record last."""
    async with opened(environment["DATABASE_URL"], read_environment(environment).config) as bases:
        job = (await Jobs(bases.pool).list("default"))[0]
        counts = {name: n for name, n in job.counts.as_json().items() if n and name != "chunks"}
        return job.state, counts, job.error[0] if job.error else None, job.problems


async def whole_story(drive: Drive, environment: dict[str, str], corpus: Path, batch: int = 3) -> None:
    """Load, change, and lose nearly all: what is in the base and on record each time."""
    run = {"source": str(corpus), "batch": batch}
    await drive(run)
    assert await last_job(environment) == ("done", {"found": 7, "new": 6, "refused": 1}, None, 1)
    (corpus / "doc-0.md").unlink()
    (corpus / "doc-1.md").write_text("# Document 1\n\nIt says something else.\n")
    (corpus / "doc-9.md").write_text("# Document 9\n\nIt is new.\n")
    await drive(run)
    counts = {"found": 7, "new": 1, "updated": 1, "unchanged": 4, "refused": 1, "deleted": 1}
    assert await last_job(environment) == ("done", counts, None, 1)
    kept = await holds(environment)
    assert kept == [f"doc-{n}.md" for n in (1, 2, 3, 4, 5, 9)]
    for name in kept[1:]:
        (corpus / name).unlink()
    await drive(run)
    assert (await last_job(environment))[::2] == ("failed", "too_many_deletions")
    assert await holds(environment) == kept


async def test_steps_in_this_process(environment: dict[str, str], corpus: Path) -> None:
    """A loop over the steps."""

    async def drive(run: dict[str, Any]) -> None:
        async with steps_over(environment) as steps:
            await run_in_process(steps, read_run(run), concurrent=2)

    await whole_story(drive, environment, corpus)


async def test_steps_of_a_batch_each_know_whose_an_id_is(environment: dict[str, str], tmp_path: Path) -> None:
    """A file that takes another id leaves no old text behind; of two with one id the first stays, in other batches."""
    named = "---\ndoc_id: {}\n---\n{}".format

    async def drive() -> tuple[dict[str, int], list[str]]:
        async with steps_over(environment) as steps:
            await run_in_process(steps, read_run({"source": str(tmp_path), "batch": 1}), concurrent=1)
        return (await last_job(environment))[1], await holds(environment)

    (tmp_path / "a.md").write_text(named("zzz", "old"))
    for n in range(3):
        (tmp_path / f"d{n}.md").write_text("text")
    assert (await drive())[1] == ["d0.md", "d1.md", "d2.md", "zzz"]
    (tmp_path / "a.md").write_text(named("aaa", "new"))
    async with asyncio.timeout(60):  # a file that was written just now has no stamp yet
        while (await drive())[1] != ["aaa", "d0.md", "d1.md", "d2.md"]:
            pass
    (tmp_path / "b.md").write_text(named("aaa", "another"))
    assert await drive() == ({"found": 5, "unchanged": 4, "refused": 1}, ["aaa", "d0.md", "d1.md", "d2.md"])
    (tmp_path / "a.md").rename(tmp_path / "c.md")
    (tmp_path / "b.md").unlink()
    assert await drive() == ({"found": 4, "unchanged": 4}, ["aaa", "d0.md", "d1.md", "d2.md"])


async def test_steps_as_dagster_assets(environment: dict[str, str], corpus: Path, monkeypatch: Any) -> None:
    """The assets are materialised in this process; checks say what is wrong, and the sensor sees what has changed."""
    for name in ("KB_SOURCE", "KB_BASE", "KB_SCHEDULE"):
        monkeypatch.delenv(name, raising=False)
    import dagster as dg

    from knowledge_base.orchestration import dagster_definitions as ours

    dg.Definitions.validate_loadable(ours.defs)
    outcomes: list[Any] = []

    def materialise(run: dict[str, Any]) -> None:
        loading = ours.Loading(**run, environment=environment)
        assets = [ours.raw_documents, ours.loaded_documents, ours.synchronised_base]
        checks = [ours.every_document_is_taken, ours.stages_agree]
        result = dg.materialize(
            [*assets, *checks], resources={"loading": loading}, instance=instance, raise_on_error=False
        )
        passed = {each.check_name: each.passed for each in result.get_asset_check_evaluations()}
        outcomes.append((result.success, passed))

    with dg.DagsterInstance.ephemeral() as instance:
        await whole_story(lambda run: asyncio.to_thread(materialise, run), environment, corpus)
    both = {"every_document_is_taken": False, "stages_agree": True}
    assert outcomes[0] == outcomes[1] == (True, both)
    assert outcomes[2][0] is False

    loading = ours.Loading(source=str(corpus), environment=environment)

    def look(cursor: str | None) -> tuple[Any, str | None]:
        context = dg.build_sensor_context(cursor=cursor, resources={"loading": loading})
        return ours.source_changed(context), context.cursor

    first, cursor = await asyncio.to_thread(look, None)
    assert isinstance(first, dg.RunRequest)
    assert isinstance((await asyncio.to_thread(look, cursor))[0], dg.SkipReason)
    (corpus / "doc-7.md").write_text("# New\n")
    assert isinstance((await asyncio.to_thread(look, cursor))[0], dg.RunRequest)


@pytest.fixture
def machine(environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Runs the deployed state machine, its pauses as short as the language has them: input -> how it ended."""
    from moto import mock_aws

    (tmp_path / "handler.py").write_text(HANDLER)
    definition = json.loads(MACHINE.read_text(), object_hook=_in_a_hurry)
    function = Function(
        "knowledge_loading", tmp_path, environment={**passed_environment(os.environ), **environment}, timeout_s=60
    )
    with running([function], concurrency=2) as service:
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", service.url)
        with mock_aws(config={"stepfunctions": {"execute_state_machine": True}}):  # type: ignore[typeddict-unknown-key,unused-ignore]
            client = boto3.client("stepfunctions", region_name="us-east-1")
            created = client.create_state_machine(
                name="kb", definition=json.dumps(definition), roleArn="arn:aws:iam::000000000000:role/kb"
            )

            def execute(run: dict[str, Any]) -> dict[str, Any]:
                started = client.start_execution(
                    stateMachineArn=created["stateMachineArn"], name=uuid4().hex, input=json.dumps(run)
                )
                deadline = time.monotonic() + 60
                while True:
                    found: dict[str, Any] = client.describe_execution(executionArn=started["executionArn"])
                    if found["status"] != "RUNNING" or time.monotonic() > deadline:
                        break
                    time.sleep(0.05)
                for event in client.get_execution_history(executionArn=started["executionArn"])["events"]:
                    if event["type"] == "TaskFailed":  # seen where a test fails
                        print(event["taskFailedEventDetails"])
                return found

            yield execute


def _in_a_hurry(state: dict[str, Any]) -> dict[str, Any]:
    return {**state, "IntervalSeconds": 1, "MaxDelaySeconds": 2} if "IntervalSeconds" in state else state


async def test_steps_as_a_state_machine(
    machine: Callable[[dict[str, Any]], dict[str, Any]], environment: dict[str, str], corpus: Path, tmp_path: Path
) -> None:
    """The whole story; then a database that is away is waited for, and a lost document costs nothing but itself."""
    ends: list[dict[str, Any]] = []

    async def drive(run: dict[str, Any]) -> None:
        ends.append(await asyncio.to_thread(machine, run))

    await whole_story(drive, environment, corpus, batch=20)
    assert [end["status"] for end in ends] == ["SUCCEEDED", "SUCCEEDED", "FAILED"]
    assert ends[2]["error"] == "TooManyDeletions"
    assert json.loads(ends[1]["output"])["counts"]["updated"] == 1

    for name in ("alive-1.md", "poison.md", "alive-2.md"):
        (corpus / name).write_text(f"# {name}\n\nText.\n")
    (tmp_path / "away").touch()
    await drive({"source": str(corpus), "prune": False})
    report = json.loads(ends[-1]["output"])
    assert not (tmp_path / "away").exists()
    assert (report["counts"]["new"], report["counts"]["failed"], report["exit_code"]) == (2, 1, 1)
    failed = [each for each in report["documents"] if each["outcome"] == "failed"]
    assert [(each["doc_id"], each["reason"], each["message"]) for each in failed] == [
        ("poison.md", "step_failed", "Runtime.ExitError")
    ]
    assert {"alive-1.md", "alive-2.md"} <= set(await holds(environment))


async def test_what_steps_hand_on_stays_small(environment: dict[str, str], tmp_path: Path) -> None:
    """A state holds 256 KiB: also with long names, and something to say of every document."""
    for n in range(250):
        (tmp_path / f"{n:03}{'ü' * 110}.md").write_bytes(b"")
    sizes: list[int] = []
    page: dict[str, Any] = {}
    results: list[dict[str, Any]] = []
    async with steps_over(environment) as steps:
        while page.get("more", True):
            told = {"step": "list", "run": {"source": str(tmp_path)}, "page": page, "results": results}
            page = await steps.carry_out(told)
            load = {"step": "load", "run": page["run"]}
            results = [await steps.carry_out({**load, "documents": batch}) for batch in page["batches"]]
            sizes.append(len(json.dumps({"page": page, "results": results}, ensure_ascii=False).encode()))
    assert page["tally"]["counts"]["refused"] == 250
    assert len(page["tally"]["problems"]) == 50
    assert len(sizes) > 2
    assert max(sizes) < 200_000


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "source"),
        ({"source": "a", "urls": ["http://a"]}, "source"),
        ({"source": 1}, "source"),
        ({"urls": "http://a"}, "urls"),
        ({"source": "a", "prune": "yes"}, "prune"),
        ({"source": "a", "batch": 0}, "batch"),
        ({"source": "a", "delete_limit_percent": float("nan")}, "delete_limit_percent"),
        ({"source": "a", "tenant": "other"}, "tenant"),
        ("s3://a", "run"),
    ],
)
def test_run_that_cannot_be_meant_is_named(body: object, field: str) -> None:
    """A tenant cannot be asked for: it is the function's."""
    with pytest.raises(InvalidRequest) as refused:
        read_run(body)
    assert refused.value.field == field


def test_events_of_a_bucket_become_runs() -> None:
    """The rules' transformers, on events as S3 sends them, give inputs that the state machine takes."""
    event = {"bucket": "docs", "key": "knowledge/a b.md"}
    for rule in json.loads((INFRA / "event-bridge" / "rules.json").read_text())["rules"]:
        target = rule["target"]
        if "InputTransformer" in target:
            text = target["InputTransformer"]["InputTemplate"]
            for name, path in target["InputTransformer"]["InputPathsMap"].items():
                text = text.replace(f"<{name}>", event[path.rsplit(".", 2)[-2 if path.endswith("name") else -1]])
        else:
            text = target["Input"]
        run = read_run(json.loads(text))
        assert run.source == "s3://docs/knowledge" or rule["name"].endswith("nightly")
