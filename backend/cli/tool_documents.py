"""`outcrop tools …`: reads the agent's action groups and renders what they offer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from backend.agent_folder import load_agent
from backend.cli.serve import complain, groups_file
from backend.executors import GroupConfig, actions_of, group_configs
from backend.settings import SettingsError, load_settings
from tools.action import Action, by_name
from tools.contract import JsonObject
from tools.documents import BeyondLimits, check, function_schema, group_description, openapi_document
from tools.executors.config import ExecutorError, InProcessGroup, LambdaGroup
from tools.pages import page

Groups = Mapping[str, Sequence[Action]]


class Unusable(Exception):
    """What was asked for cannot be shown; the message says why and what to do."""


@dataclass(frozen=True)
class Own:
    """The groups of an agent: those whose actions are code of ours, and how the others are run."""

    actions: Groups
    executors: Mapping[str, str]  # of all groups

    def group(self, name: str) -> Sequence[Action]:
        """The actions of one group; `Unusable` when it is none of ours."""
        if name in self.actions:
            return self.actions[name]
        if name in self.executors:
            raise Unusable(
                f"Action group {name} holds tools of others ({self.executors[name]}): its schema is theirs. "
                f"Groups of ours: {', '.join(self.actions)}."
            )
        raise Unusable(f"There is no action group {name}. There are: {', '.join(self.actions)}.")


def own_groups() -> Own:
    """The configured agent's groups.

    Raises:
        SettingsError: the configuration or the agent's folder cannot be used.
        Unusable: actions of a group cannot be had; all such groups at once.
    """
    settings = load_settings()
    configs = group_configs(load_agent(settings))
    found: dict[str, Sequence[Action]] = {}
    problems = []
    for name, config in configs.items():
        if not _is_ours(config):
            continue
        try:
            found[name] = actions_of(name, getattr(config, "module", None))
        except ExecutorError as error:
            problems.append(str(error))
    if problems:
        head = f"The tools cannot be used as {groups_file(settings)} says:"
        raise Unusable("\n".join([head, *problems]))
    by_name(each for actions in found.values() for each in actions)
    return Own(found, {name: config.executor for name, config in configs.items()})


def listing(*, as_json: bool) -> int:
    """Print all groups with their tools. Returns the exit code."""
    return _printed(lambda own: _as_json(_listed(own)) if as_json else "\n".join(_lines(own)), None)


def schemas(group: str, forms: Sequence[str], out: Path | None) -> int:
    """Print or write the schema of a group in each form. Returns the exit code."""

    def rendered(own: Own) -> str:
        actions = own.group(group)
        found = in_forms(group, actions, forms)
        document = found if len(found) > 1 else next(iter(found.values()))
        if out is not None and out.suffix in (".yaml", ".yml"):
            # By way of JSON, for YAML would refer from one place to another where parts are the same.
            return yaml.safe_dump(json.loads(_as_json(document)), sort_keys=False, allow_unicode=True, width=100)
        return _as_json(document)

    return _printed(rendered, out)


def pages(group: str | None, out: Path | None) -> int:
    """Print or write the page of a group, or of all. Returns the exit code."""

    def rendered(own: Own) -> str:
        names = own.actions if group is None else {group: own.group(group)}
        made = {name: page(name, actions, group_description(actions)) for name, actions in names.items()}
        if out is None:
            return "\n".join(made.values()).rstrip()
        for name, text in made.items():
            _write(out / f"{name}.md", text)
        return "\n".join(f"Wrote {out / f'{name}.md'}" for name in made)

    return _printed(rendered, None)


def in_forms(group: str, actions: Sequence[Action], forms: Sequence[str]) -> JsonObject:
    """The schema of a group in each of these forms; raises `BeyondLimits`."""
    return {form: _in_form(form, group, actions) for form in forms}


# --- how it is shown ------------------------------------------------------------------------------------------------


def _in_form(form: str, group: str, actions: Sequence[Action]) -> Any:
    description = group_description(actions)
    match form:
        case "function":
            return function_schema(group, actions, description)
        case "openapi":
            return openapi_document(group, actions, description, version=version("outcrop"))
        case "model":
            from agent.providers.openai import render_tool

            check(group, actions, "model")
            return [render_tool(each.spec) for each in actions]
        case _:
            return _mcp_tools(actions)


def _mcp_tools(actions: Sequence[Action]) -> list[JsonObject]:
    if find_spec("mcp") is None:
        raise Unusable("The MCP library is not installed. Get it: pip install 'outcrop[mcp]'")
    from backend.api.mcp_tools import render_tool

    return [render_tool(each.spec).model_dump(mode="json", by_alias=True, exclude_none=True) for each in actions]


def _listed(own: Own) -> list[JsonObject]:
    """All groups; `tools` is null where they are others', and known only when the service runs."""
    return [
        {
            "group": name,
            "executor": executor,
            "tools": [
                {
                    "name": each.name,
                    "effect": each.spec.effect,
                    "roles": sorted(each.roles),
                    "description": each.spec.description,
                    "parameters": each.spec.parameters,
                }
                for each in own.actions[name]
            ]
            if name in own.actions
            else None,
        }
        for name, executor in own.executors.items()
    ]


def _lines(own: Own) -> list[str]:
    width = max((len(each.name) for actions in own.actions.values() for each in actions), default=0)
    lines = []
    for name, executor in own.executors.items():
        lines.append(f"{name} ({executor})")
        lines += [
            f"  {each.name:{width}}  {each.spec.effect:5}  {', '.join(sorted(each.roles))}: {each.spec.description}"
            for each in own.actions.get(name, ())
        ] or ["  tools of others, which are known when the service runs"]
    return lines


def _is_ours(config: GroupConfig) -> bool:
    return isinstance(config, InProcessGroup) or (isinstance(config, LambdaGroup) and config.is_ours)


def _as_json(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False, indent=2)


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    except OSError as error:
        raise Unusable(f"{path} cannot be written: {error.strerror}. Choose another place with --out.") from error


def _printed(rendered: Callable[[Own], str], out: Path | None) -> int:
    try:
        text = rendered(own_groups())
        if out is None:
            print(text)
        else:
            _write(out, text.rstrip("\n") + "\n")
            print(f"Wrote {out}")
    except SettingsError as error:
        return complain("The configuration cannot be used:", *str(error).splitlines())
    except BeyondLimits as error:
        return complain("The group cannot be described like that:", *error.problems)
    except Unusable as error:
        return complain(*str(error).splitlines())
    return 0
