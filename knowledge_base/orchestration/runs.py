"""What a run is told, and what its steps hand to each other: all of it JSON, and never more than a state may hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from knowledge_base.bases import DEFAULT
from knowledge_base.documents import Found
from knowledge_base.errors import InvalidRequest
from knowledge_base.loading.report import Counts, Problem, Report

JsonObject = dict[str, Any]
MAX_PROBLEMS = 50  # handed on; how many there were is in the counts
MAX_MESSAGE = 200
MAX_NAME = 200
MAX_URLS = 200


@dataclass(frozen=True, slots=True)
class Run:
    """What to load into which base.

    `source`: a folder or `s3://bucket/folder`; or `urls`. `only`: addresses of the documents that are meant, in place
    of all (nothing is pruned then). `prune`: delete what the source no longer has, unless that is more than
    `delete_limit_percent` of it (None: as configured). `batch`: documents of one call.
    """

    source: str = ""
    urls: tuple[str, ...] = ()
    base: str = DEFAULT
    only: tuple[str, ...] = ()
    prune: bool = True
    full: bool = False
    delete_limit_percent: float | None = None
    batch: int = 20

    @property
    def prunes(self) -> bool:
        """Whether anything may be deleted; nobody knows what is missing from single addresses."""
        return self.prune and not self.only and not self.urls

    def as_json(self) -> JsonObject:
        """Inverse of `read_run`."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


def read_run(body: object) -> Run:
    """A run from its JSON; `InvalidRequest` names the member and the fix."""
    if not isinstance(body, Mapping):
        raise InvalidRequest("run", "must be an object")
    kinds = {each.name: type(each.default) for each in fields(Run)} | {"delete_limit_percent": float}
    if unknown := sorted(set(body) - set(kinds)):
        raise InvalidRequest(unknown[0], f"is not known; there are {', '.join(kinds)}")
    given = {name: _value(name, kinds[name], value) for name, value in body.items() if value is not None}
    run = Run(**given)
    if bool(run.source) == bool(run.urls):
        raise InvalidRequest("source", "must be a folder or s3://bucket/folder, or `urls` a list of addresses")
    if len(run.urls) > MAX_URLS:
        raise InvalidRequest("urls", f"must name 1 to {MAX_URLS} addresses")
    if run.delete_limit_percent is not None and not 0 <= run.delete_limit_percent <= 100:
        raise InvalidRequest("delete_limit_percent", "must be 0 to 100")
    if not 1 <= run.batch <= 1000:
        raise InvalidRequest("batch", "must be 1 to 1000")
    return run


def _value(name: str, kind: type, value: object) -> Any:
    if kind is tuple:
        if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
            raise InvalidRequest(name, "must be a list of strings")
        return tuple(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise InvalidRequest(name, f"must be {'text' if kind is str else kind.__name__}")
    return value


def found_json(found: Found) -> JsonObject:
    """A listed document, to be read by another process."""
    return {
        "doc_id": found.doc_id,
        "uri": found.uri,
        "name": found.name,
        "size": found.size,
        "stamp": found.stamp,
    }


def read_found(body: object) -> Found:
    """Inverse of `found_json`."""
    if not isinstance(body, Mapping):
        raise InvalidRequest("documents", "must be a list of documents as `list` gave them")
    try:
        return Found(body["doc_id"], body["uri"], body["name"], body["size"], body["stamp"])
    except KeyError as error:
        raise InvalidRequest("documents", f"must have {error.args[0]}, as `list` gave it") from error


def tally_json(reports: Iterable[Report]) -> JsonObject:
    """Counts and first problems of some reports."""
    return folded(
        {"counts": report.counts.as_json(), "problems": [_problem_json(each) for each in report.problems]}
        for report in reports
    )


def folded(tallies: Iterable[Mapping[str, Any]]) -> JsonObject:
    """Several tallies as one; an empty one counts for nothing, and `parts` are tallies in their turn."""
    counts = Counts().as_json()
    problems: list[JsonObject] = []
    for tally in (part for each in tallies for part in each.get("parts", (each,))):
        for name, n in tally.get("counts", {}).items():
            counts[name] += n
        problems += tally.get("problems", ())
    return {"counts": counts, "problems": problems[:MAX_PROBLEMS]}


def read_tally(source: str, tally: Mapping[str, Any]) -> Report:
    """A report of that source with these counts and problems."""
    whole = folded([tally])
    problems: Sequence[Problem] = [Problem(**each) for each in whole["problems"]]
    return Report(source, is_listed=True, counts=Counts(**whole["counts"]), problems=list(problems))


def _problem_json(problem: Problem) -> JsonObject:
    body = {each.name: getattr(problem, each.name) for each in fields(problem)}
    cut = {"doc_id": problem.doc_id[:MAX_NAME], "uri": problem.uri[:MAX_NAME], "message": problem.message[:MAX_MESSAGE]}
    return {**body, **cut}
