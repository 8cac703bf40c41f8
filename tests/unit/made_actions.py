"""Actions of all kinds of types, made by hypothesis, with JSON arguments that fit them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from hypothesis import strategies as st
from pydantic import BaseModel, Field

from tools.action import Action, FromSession, action
from tools.contract import JsonObject, ToolContext

NAMES = ("name", "config", "self", "json", "model_config", "copy", "schema", "cls", "args", "kwargs", "body", "type")


class Colour(Enum):
    """Texts, one of which looks like a number."""

    RED = "red"
    TEN = "10"


class Size(IntEnum):
    """Numbers."""

    SMALL = 1
    LARGE = 2


class Point(BaseModel):
    """An object with what may be left out."""

    x: int
    label: str = "here"
    seen: date | None = None


class Route(BaseModel):
    """An object of objects."""

    stops: list[Point]
    colour: Colour
    json_: str = Field(default="{}", alias="json")


class Tree(BaseModel):
    """An object that may hold itself."""

    value: int | str
    below: list[Tree] = []


class Cat(BaseModel):
    """One of two."""

    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    """The other."""

    kind: Literal["dog"]
    name: str


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]


@dataclass(frozen=True)
class Kind:
    """A type, and the JSON values that it accepts."""

    annotation: Any
    values: st.SearchStrategy[Any]


TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.sampled_from(["", " ", "5", "05", "1e3", "true", "null", "[a, b]", "[1]", "{}", "{a=1}", '"x"', "a, b", "NaN"]),
)
WHOLE = st.integers(-(2**63), 2**63 - 1)
POINT = st.fixed_dictionaries({"x": WHOLE}, optional={"label": TEXT, "seen": st.dates().map(date.isoformat)})
STOPS = st.fixed_dictionaries(
    {"stops": st.lists(POINT, max_size=2), "colour": st.sampled_from(["red", "10"])}, optional={"json": TEXT}
)
PETS = st.one_of(
    st.fixed_dictionaries({"kind": st.just("cat"), "lives": WHOLE}),
    st.fixed_dictionaries({"kind": st.just("dog"), "name": TEXT}),
)
SHORT = Annotated[str, Field(min_length=1, max_length=3, pattern="^[a-z0-9]+$")]
TREE: st.SearchStrategy[Any] = st.deferred(
    lambda: st.fixed_dictionaries({"value": st.one_of(WHOLE, TEXT)}, optional={"below": st.lists(TREE, max_size=2)})
)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = [
    Kind(str, TEXT),
    Kind(int, WHOLE),
    Kind(float, st.one_of(FLOATS, st.integers(-(2**60), 2**60))),
    Kind(bool, st.booleans()),
    Kind(date, st.dates().map(date.isoformat)),
    Kind(datetime, st.datetimes().map(datetime.isoformat)),
    Kind(time, st.times().map(time.isoformat)),
    Kind(timedelta, st.sampled_from(["PT1H", "P1DT2S"])),
    Kind(UUID, st.uuids().map(str)),
    Kind(Decimal, st.decimals(allow_nan=False, allow_infinity=False, places=2).map(str)),
    Kind(Colour, st.sampled_from(["red", "10"])),
    Kind(Size, st.sampled_from([1, 2])),
    Kind(Literal["a", "1", 1, True], st.sampled_from(["a", "1", 1])),
    Kind(Literal["only"], st.just("only")),
    Kind(Annotated[int, Field(gt=3, le=9)], st.integers(4, 9)),
    Kind(SHORT, st.from_regex("[a-z0-9]{1,3}", fullmatch=True)),
    Kind(int | str, st.one_of(WHOLE, TEXT)),
    Kind(int | bool | None, st.one_of(WHOLE, st.booleans(), st.none())),
    Kind(Any, st.one_of(TEXT, WHOLE, st.none(), st.lists(TEXT, max_size=2))),
    Kind(Point, POINT),
    Kind(Route, STOPS),
    Kind(Tree, TREE),
    Kind(Pet, PETS),
    Kind(tuple[int, str], st.tuples(WHOLE, TEXT).map(list)),
]  # fmt: skip


def _wrapped(inner: Kind) -> st.SearchStrategy[Kind]:
    return st.sampled_from(
        [
            inner,
            Kind(list[inner.annotation], st.lists(inner.values, max_size=3)),  # type: ignore[name-defined]
            Kind(dict[str, inner.annotation], st.dictionaries(TEXT, inner.values, max_size=2)),  # type: ignore[name-defined]
            Kind(inner.annotation | None, st.one_of(st.none(), inner.values)),
        ]
    )


KINDS = st.sampled_from(PLAIN).flatmap(_wrapped)


@dataclass(frozen=True)
class Made:
    """An action, what its function was last called with, and arguments for it."""

    action: Action
    called_with: list[Mapping[str, Any]]
    args: JsonObject

    @property
    def written(self) -> JsonObject:
        """The arguments as a model that keeps to the schema writes them: null is left out where it means just that."""
        return {name: each for name, each in self.args.items() if each is not None or name not in self.action.defaults}


@st.composite
def made_actions(draw: st.DrawFn, name: str = "made") -> Made:
    """An action of up to six parameters, one of which perhaps only the session fills in."""
    kinds = draw(st.dictionaries(st.sampled_from(NAMES), KINDS, max_size=6))
    optional = {each for each in kinds if draw(st.booleans())}
    hints: dict[str, Any] = {}
    parameters = []
    for each, kind in kinds.items():
        hints[each] = kind.annotation | None if each in optional else kind.annotation
        parameters.append(_parameter(each, None if each in optional else inspect.Parameter.empty))
    if draw(st.booleans()):
        hints["customer_id"] = Annotated[str, FromSession()]
        parameters.append(_parameter("customer_id"))
    called_with: list[Mapping[str, Any]] = []
    made = _action(name, parameters, hints, list(kinds), called_with, gated=draw(st.booleans()))
    given = [each for each in kinds if each not in optional or draw(st.booleans())]
    return Made(made, called_with, {each: draw(kinds[each].values) for each in given})


def _parameter(name: str, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)


def _action(
    name: str,
    parameters: list[inspect.Parameter],
    hints: dict[str, Any],
    described: list[str],
    called_with: list[Mapping[str, Any]],
    *,
    gated: bool,
) -> Action:
    async def run(*_: Any, **values: Any) -> JsonObject:
        called_with.append({key: value for key, value in values.items() if key != "ctx"})
        return {}

    run.__name__ = name
    run.__annotations__ = {**hints, "ctx": ToolContext}
    run.__signature__ = inspect.Signature([*parameters, _parameter("ctx")])  # type: ignore[attr-defined]
    entries = "\n".join(f"    {each}: What {each} is." for each in described)
    run.__doc__ = "Do something." + (f"\n\nArgs:\n{entries}" if entries else "")
    return action(group="made", effect="gated" if gated else "read")(run)
