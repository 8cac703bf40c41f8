"""`outcrop new action-group`: a module of two actions, its tests, its Lambda handler, and its place in the agent."""

from __future__ import annotations

import json
import keyword
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from string import Template

import yaml
from pydantic import ValidationError

from backend.cli.action_group_files import CONFIG, HANDLER, MODULE, TEST
from backend.cli.serve import complain
from tools.documents import BEDROCK_NAME
from tools.executors.config import ActionGroups

DEFINITION = Path("agent/definitions/scheduling")
LONGEST_NAME = 32  # leaves room for the actions' names, and for the lines that hold them
GROUPS_FILE = "action_groups.yaml"


class CannotCreate(Exception):
    """Nothing was written; the message says why and what to do."""


@dataclass(frozen=True)
class Plan:
    """What will be written: new files, and the new text of the file that says where groups run."""

    files: dict[Path, str]
    groups_file: Path
    groups_text: str


def create(name: str, folder: Path) -> int:
    """Write the group into a checkout. Returns the exit code."""
    try:
        plan = _plan(name, folder)
        for path, text in plan.files.items():
            _write_new(path, text)
        snapshot = folder / "tests" / "unit" / "snapshots" / f"{name}.json"
        _write_new(snapshot, _snapshot(name, folder))
        plan.groups_file.write_text(plan.groups_text, "utf-8")
    except CannotCreate as error:
        return complain(*str(error).splitlines())
    except OSError as error:
        return complain(f"{error.filename}: {error.strerror}. What was written so far stays; remove it to try again.")
    written = [*plan.files, snapshot]
    lines = [
        f"Wrote {', '.join(str(each) for each in written)};",
        f"added {name} to {plan.groups_file}.",
        f"See it:   outcrop tools list; outcrop tools schema {name} --as function",
        f"Test it:  .venv/bin/pytest -n 0 tests/unit/test_{name}.py",
        f'Call it:  outcrop lambda invoke {name} --action list_{name} --session \'{{"customer_id": "1"}}\'',
        f"Then make it yours: {folder / 'tools' / f'{name}.py'}; docs/first-tool.md goes on from here.",
    ]
    print("\n".join(lines))
    return 0


def _plan(name: str, folder: Path) -> Plan:
    """Everything that can be refused is refused here, before anything is written."""
    if not (folder / "tools" / "catalogue.py").is_file() or not (folder / DEFINITION).is_dir():
        raise CannotCreate(
            f"{folder.resolve()} is no checkout of Outcrop; go to one or name it with --dir.\n"
            "Elsewhere a group is a module of yours with a tuple ACTIONS, named under `module:` in the "
            f"{GROUPS_FILE} of your AGENT_DIR."
        )
    _check_name(name)
    files = {
        folder / "tools" / f"{name}.py": MODULE,
        folder / "lambda" / name / "handler.py": HANDLER,
        folder / "tests" / "unit" / f"test_{name}.py": TEST,
    }
    taken = [path for path in (*files, folder / "tests/unit/snapshots" / f"{name}.json") if path.exists()]
    if (folder / "tools" / name).exists():
        taken.append(folder / "tools" / name)
    named = yaml.safe_load((folder / DEFINITION / "agent.yaml").read_text("utf-8"))["action_groups"]
    if name in named:
        taken.append(folder / DEFINITION / "agent.yaml")
    if taken:
        raise CannotCreate(f"{name} is taken by {', '.join(map(str, taken))}; choose another name.")
    groups_file = folder / DEFINITION / GROUPS_FILE
    return Plan(
        {path: _filled(text, name) for path, text in files.items()}, groups_file, _with_group(name, groups_file)
    )


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or not BEDROCK_NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise CannotCreate(
            f"{name!r} cannot be a group's name: use up to {LONGEST_NAME} lower-case letters, digits and single "
            "underscores, with a letter in front, such as refunds."
        )
    if keyword.iskeyword(name) or keyword.issoftkeyword(name) or name in sys.stdlib_module_names:
        raise CannotCreate(f"{name!r} means something in Python; choose another name, such as {name}_requests.")


def _with_group(name: str, path: Path) -> str:
    """The text of the file with the group at its end, everything else as it was."""
    text = path.read_text("utf-8") if path.exists() else ""
    entry = _filled(CONFIG, name)
    if text.strip():
        text = text.rstrip("\n") + "\n\n"
    try:
        before = ActionGroups.model_validate(yaml.safe_load(text) or {})
        if name in before.root:
            raise CannotCreate(f"{path} has a group {name} already; choose another name, or remove it first.")
        after = ActionGroups.model_validate(yaml.safe_load(text + entry))
    except (yaml.YAMLError, ValidationError) as error:
        raise CannotCreate(
            f"{path} cannot be added to: {str(error).splitlines()[0]}. Mend it (groups stand below one another, "
            "without braces around them), then try again."
        ) from error
    if set(after.root) != {*before.root, name}:
        raise CannotCreate(f"{path} cannot be added to; write its groups below one another, then try again.")
    return text + entry


def _snapshot(name: str, folder: Path) -> str:
    """The schemas of the new group, as its test compares them; made by a process that finds the new module."""
    code = (
        "import json, sys\n"
        "from importlib import import_module\n"
        "from backend.cli.tool_documents import in_forms\n"
        "name = sys.argv[1]\n"
        'forms = in_forms(name, import_module(f"tools.{name}").ACTIONS, ("function", "model"))\n'
        "print(json.dumps(forms))\n"
    )
    # `-c` puts the working directory in front of the path, so that it is the checkout's own code that runs.
    made = subprocess.run([sys.executable, "-c", code, name], cwd=folder, capture_output=True, text=True, check=False)
    if made.returncode:
        raise CannotCreate(f"The new module cannot be imported in {folder}:\n{made.stderr.strip().splitlines()[-1]}")
    return json.dumps(json.loads(made.stdout), ensure_ascii=False, indent=2) + "\n"


def _filled(text: str, name: str) -> str:
    lines = Template(text).substitute(name=name, words=" ".join(name.split("_")).strip()).splitlines(keepends=True)
    # Where the new module stands among the imports depends on its name.
    places = [n for n, line in enumerate(lines) if line.startswith("from tools.")]
    for place, line in zip(places, sorted(lines[n] for n in places), strict=True):
        lines[place] = line
    return "".join(lines)


def _write_new(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:  # never over a file that came up meanwhile
        file.write(text)
