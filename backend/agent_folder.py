"""The configured agent, read from its folder, with every mistake in it told by file, key and fix."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import ValidationError

from agent.definition import AgentDefinition, load_definition
from backend.settings import Settings, SettingsError

_FILES = {"AgentFile": "agent.yaml", "ActionGroups": "action_groups.yaml"}
_FIXES = {
    "missing": "is missing; add it",
    "extra_forbidden": "is no key of this place; remove it, or look at its spelling",
    "union_tag_not_found": "says no `executor`; add one of in_process, lambda, http, mcp, client",
}


def load_agent(settings: Settings) -> AgentDefinition:
    """The agent in AGENT_DIR. Raises `SettingsError` with all that is wrong in a file of its folder."""
    folder = settings.agent_dir
    try:
        return load_definition(folder.name, folder.parent)
    except ValidationError as error:
        raise SettingsError(_mistakes(folder, error)) from error
    except yaml.YAMLError as error:
        raise SettingsError(_no_yaml(folder)) from error
    except OSError as error:
        raise SettingsError([("AGENT_DIR", f"{folder} holds no agent that can be read: {error}")]) from error


def _no_yaml(folder: Path) -> list[tuple[str, str]]:
    """Each file of the folder that is no YAML, with the line in it."""
    found = []
    for path in sorted(folder.glob("*.yaml")):
        try:
            yaml.safe_load(path.read_text("utf-8"))
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            found.append((f"AGENT_DIR: {path}:{line}", f"{error.problem}; correct the YAML there"))
        except yaml.YAMLError as error:
            found.append((f"AGENT_DIR: {path}", f"{error}; correct the YAML there"))
    return found


def _mistakes(folder: Path, error: ValidationError) -> list[tuple[str, str]]:
    file = folder / _FILES[error.title] if error.title in _FILES else folder
    return [
        (
            f"AGENT_DIR: {file}: {'.'.join(map(str, each['loc'])) or 'the whole file'}",
            _FIXES.get(each["type"], each["msg"].removeprefix("Value error, ")),
        )
        for each in error.errors()
    ]
