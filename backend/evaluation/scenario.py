"""Scenario files: conversations with what must, may and must not happen in them.

One file holds `schema_version, kind, fixture, defaults, scenarios`. `fixture` is the seed of the PF360 simulator,
either written out or the word `default` for the simulator's own. Unknown keys are
refused, each named with file, scenario and key: a misspelt expectation that is silently ignored would pass everything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from backend.evaluation.atoms import check_atom
from backend.evaluation.expected import check_expected

JsonObject = dict[str, Any]
Gate = Literal["none", "ask", "act", "reask", "drop", "clarify", "refuse"]
Specialist = Literal["scheduling", "information", "notes", "chitchat", "coordinator"]

DEFAULT_FIXTURE = Path(__file__).parent.parent / "embedded" / "pf360_simulator" / "fixture.yaml"


class ScenarioError(Exception):
    """A scenario file that cannot be used; the message lists every fault, one a line."""


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value if isinstance(value, tuple) else (value,)


def _check_args(args: JsonObject) -> JsonObject:
    for name, expected in args.items():
        check_expected(name, expected)
    return args


def _check_pattern(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return pattern


Atom = Annotated[str, AfterValidator(check_atom)]
Args = Annotated[JsonObject, AfterValidator(_check_args)]
Pattern = Annotated[str, AfterValidator(_check_pattern)]


class Strict(BaseModel):
    """No unknown key, no change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ExpectedCall(Strict):
    """A call that a turn must make (or may make, when `optional`)."""

    tool: str | None = None
    one_of: tuple[str, ...] = ()
    args: Args = Field(default_factory=dict)
    optional: bool = False
    order: Literal["any"] | None = None

    @model_validator(mode="after")
    def _one_name(self) -> ExpectedCall:
        if bool(self.tool) == bool(self.one_of):
            raise ValueError("a call has either `tool` or `one_of`")
        return self

    @property
    def tools(self) -> tuple[str, ...]:
        """The names that fit."""
        return (self.tool,) if self.tool else self.one_of

    def __str__(self) -> str:
        return f"{'|'.join(self.tools)}({_arguments(self.args)})"


class ExpectedAction(Strict):
    """A write, or a pending action: a tool with what its arguments must be."""

    tool: str
    args: Args = Field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.tool}({_arguments(self.args)})"


class Never(Strict):
    """What must not be attempted, or must match no reply."""

    tool: str | None = None
    args: Args = Field(default_factory=dict)
    reply_re: Pattern | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Never:
        if bool(self.tool) == bool(self.reply_re) or (self.args and not self.tool):
            raise ValueError("`never` has either `tool` (with `args`) or `reply_re`")
        return self


class EndState(Strict):
    """What the simulator must hold at the end; only what is named is compared."""

    projects: dict[str, ProjectState] = Field(default_factory=dict)
    notes: dict[str, int] = Field(default_factory=dict)
    assignments: dict[str, str | None] = Field(default_factory=dict)


class ProjectState(Strict):
    """Status and start (`YYYY-MM-DDTHH:MM:SS`, null: none) of a project."""

    status: str | None = None
    start: str | None = None


class Fault(Strict):
    """A fault armed in the simulator before a turn (counted from 1)."""

    before_turn: int = Field(ge=1)
    endpoint: str
    mode: str
    times: int | None = None
    match: Any = None
    p: float | None = None


class ClockStep(Strict):
    """The clock moves on before a turn (counted from 1)."""

    before_turn: int = Field(ge=1)
    advance_seconds: float


class ExpectedTurn(Strict):
    """One user message and what its turn must do."""

    user: str
    route: Annotated[tuple[Specialist, ...], BeforeValidator(_as_tuple)] = ()
    calls: tuple[ExpectedCall, ...] = ()
    order: Literal["any"] | None = None
    gate: Annotated[tuple[Gate, ...], BeforeValidator(_as_tuple), Field(min_length=1)] = ("none",)
    pending: Annotated[tuple[ExpectedAction, ...], BeforeValidator(_as_tuple)] = ()
    kb: tuple[str, ...] = ()
    say: tuple[Atom, ...] = ()
    say_any: tuple[Atom, ...] = ()
    not_say: tuple[Atom, ...] = ()

    @property
    def any_order(self) -> bool:
        """Whether the calls may come in any order."""
        return self.order == "any" or any(call.order == "any" for call in self.calls)


class Scenario(Strict):
    """One conversation. `writes` are alternatives: one of the lists must be what was committed."""

    id: str
    title: str = ""
    tags: tuple[str, ...] = ()
    persona: str
    faults: tuple[Fault, ...] = ()
    clock: tuple[ClockStep, ...] = ()
    turns: tuple[ExpectedTurn, ...] = Field(min_length=1)
    writes: tuple[ExpectedAction, ...] | None = None
    writes_order: Literal["any"] | None = None
    writes_any: tuple[tuple[ExpectedAction, ...], ...] | None = None
    end_state: EndState | None = None
    end_state_any: tuple[EndState, ...] = ()
    never: tuple[Never, ...] = ()
    judge: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Scenario:
        if self.writes is not None and self.writes_any is not None:
            raise ValueError("`writes_any` stands instead of `writes`")
        starts = [*(fault.before_turn for fault in self.faults), *(step.before_turn for step in self.clock)]
        late = [start for start in starts if start > len(self.turns)]
        if late:
            raise ValueError(f"before_turn {late[0]}: there are only {len(self.turns)} turns")
        return self

    @property
    def write_lists(self) -> tuple[tuple[ExpectedAction, ...], ...]:
        """The acceptable lists of writes; one empty list when nothing may change."""
        return self.writes_any or (self.writes or (),)

    @property
    def end_states(self) -> tuple[EndState, ...]:
        """The acceptable end states; none: not compared."""
        return (self.end_state,) if self.end_state and not self.end_state_any else self.end_state_any

    def pending_at(self, turn: int) -> tuple[ExpectedAction, ...]:
        """What must be pending when turn `turn` (from 0) ends with a question; an unclear answer keeps the earlier."""
        if self.turns[turn].pending or "reask" not in self.turns[turn].gate:
            return self.turns[turn].pending
        return next((earlier.pending for earlier in reversed(self.turns[:turn]) if earlier.pending), ())


class Defaults(Strict):
    """What holds for every scenario of a file, beside the rules D1 to D8."""

    max_calls_per_turn: int = 8
    never: tuple[Never, ...] = ()


class ScenarioFile(Strict):
    """A loaded file; `fixture` is the seed itself, `inline` whether the file brought it along."""

    path: str
    kind: str
    fixture: JsonObject
    inline: bool
    defaults: Defaults
    scenarios: tuple[Scenario, ...]


TOP_LEVEL = {"schema_version", "kind", "fixture", "defaults", "scenarios"}


class _Loader(yaml.SafeLoader):
    """YAML whose dates and times stay text (`10:00` is no number of seconds) and whose keys are given once."""


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag not in ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:int")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(0|[1-9][0-9]*)$"), list("-+0123456789"))


def _mapping(loader: _Loader, node: yaml.MappingNode) -> JsonObject:
    loader.flatten_mapping(node)
    pairs = [
        (loader.construct_object(key, deep=True), loader.construct_object(value, deep=True))
        for key, value in node.value
    ]
    keys = [key for key, _ in pairs]
    twice = {key for key in keys if keys.count(key) > 1}
    if twice:
        raise yaml.constructor.ConstructorError(None, None, f"given twice: {sorted(map(str, twice))}", node.start_mark)
    return dict(pairs)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def read_yaml(path: Path) -> Any:
    """Read one YAML file in the dialect of scenario files.

    Raises:
        ScenarioError: it cannot be read or is no YAML.
    """
    try:
        return yaml.load(path.read_text("utf-8"), Loader=_Loader)  # noqa: S506 - derived from the safe loader
    except OSError as error:
        raise ScenarioError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: {error}") from error


def load_scenarios(path: Path) -> ScenarioFile:
    """Read and check one scenario file.

    Raises:
        ScenarioError: lists every fault of the file, as `file: scenario: key: what is wrong`.
    """
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise ScenarioError(f"{path}: not a scenario file")
    faults = [f"{path}: {key}: unknown key" for key in raw if key not in TOP_LEVEL]
    if raw.get("schema_version") != 1:
        faults.append(f"{path}: schema_version: {raw.get('schema_version')!r}, only 1 is known")
    inline = isinstance(raw.get("fixture"), dict)
    if not inline and raw.get("fixture") != "default":
        faults.append(f"{path}: fixture: either the seed data or the word `default`")
    fixture = _fixture(raw["fixture"] if inline else read_yaml(DEFAULT_FIXTURE))
    if inline:
        fixture = _with_offices(fixture)
    defaults = Defaults()
    try:
        defaults = Defaults.model_validate(raw.get("defaults") or {})
    except ValidationError as error:
        faults += [f"{path}: defaults: {line}" for line in _lines(error)]
    scenarios: list[Scenario] = []
    for number, entry in enumerate(raw.get("scenarios") or (), start=1):
        name = entry.get("id", f"scenario {number}") if isinstance(entry, dict) else f"scenario {number}"
        try:
            scenarios.append(scenario := Scenario.model_validate(entry))
            faults += [f"{path}: {name}: {line}" for line in _unknown_references(scenario, fixture)]
        except ValidationError as error:
            faults += [f"{path}: {name}: {line}" for line in _lines(error)]
    ids = [scenario.id for scenario in scenarios]
    faults += [f"{path}: {twice}: the id is used twice" for twice in sorted({i for i in ids if ids.count(i) > 1})]
    if faults:
        raise ScenarioError("\n".join(faults))
    return ScenarioFile(
        path=str(path),
        kind=str(raw.get("kind", "")),
        fixture=fixture,
        inline=inline,
        defaults=defaults,
        scenarios=tuple(scenarios),
    )


def _fixture(raw: Any) -> JsonObject:
    # The simulator's own file may hold the block bare or under its name.
    inner = raw.get("fixture", raw) if isinstance(raw, Mapping) else {}
    return dict(inner)


def _with_offices(fixture: JsonObject) -> JsonObject:
    """The seed with the coordinates of offices that it knows by id only: those of the simulator's own seed."""
    known = {
        row["client_id"]: row["office"] for row in _fixture(read_yaml(DEFAULT_FIXTURE))["clients"] if "office" in row
    }
    rows = [
        {"office": known[row["client_id"]], **row} if row.get("client_id") in known else row
        for row in fixture.get("clients", ())
        if isinstance(row, Mapping)
    ]
    return {**fixture, "clients": rows} if "clients" in fixture else fixture


def _unknown_references(scenario: Scenario, fixture: JsonObject) -> Iterator[str]:
    if scenario.persona not in fixture.get("personas", {}):
        yield f"persona: {scenario.persona} is not in the fixture"
    documents = set(fixture.get("kb_documents", ()))
    projects = {str(row["project_id"]) for key in ("projects", "queue") for row in fixture.get(key, ())}
    for number, turn in enumerate(scenario.turns):
        for document in turn.kb:
            if document not in documents:
                yield f"turns.{number}.kb: {document} is not in the fixture"
        for atom in (*turn.say, *turn.say_any, *turn.not_say):
            kind, _, value = atom.partition(":")
            if kind in ("project", "url") and value not in projects:
                yield f"turns.{number}: {atom}: there is no such project in the fixture"


def _lines(error: ValidationError) -> list[str]:
    return [f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in error.errors()]


def _arguments(args: JsonObject) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in args.items())
