"""`outcrop new action-group`, in a copy of this checkout: what it writes is whole, checked and offered at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from backend.cli.action_group import create
from tests import nursery

ROOT = Path(__file__).parents[2]
NAME = "specimen"  # no name that anybody would give a group of this checkout
LONG = "specimen_of_the_longest_name_yet"  # as long as a name may be
GROUPS = Path("agent/definitions/scheduling/action_groups.yaml")
# The types of the whole application are not this test's affair, and take mypy half a minute when it has no cache.
NOT_THE_SERVICE = """
[[tool.mypy.overrides]]
module = "backend.*"
follow_imports = "skip"
"""


def files_of(name: str) -> list[str]:
    return [
        f"tools/{name}.py",
        f"lambda/{name}/handler.py",
        f"tests/unit/test_{name}.py",
        f"tests/unit/snapshots/{name}.json",
    ]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what belongs to the project."""
    folder = tmp_path_factory.mktemp("checkout")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    names = [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    for name in names or [str(p.relative_to(ROOT)) for p in _plain_files()]:
        if not name.startswith("frontend/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    return folder


def _plain_files() -> list[Path]:
    """Outside of a git checkout: all that is not hidden."""
    return [p for p in ROOT.rglob("*") if p.is_file() and not any(part[0] == "." for part in p.relative_to(ROOT).parts)]


def run(checkout: Path, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
    """A command of the environment that runs these tests, on the copy's code."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OUTCROP_", "AGENT_DIR"))}
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=checkout, capture_output=True, text=True, check=False, timeout=120,
        env={**kept, "PYTHONPATH": str(checkout), **more},
    )  # fmt: skip


def outcrop(checkout: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return run(checkout, "backend", *arguments, **more)


@pytest.fixture(scope="module")
def groups(checkout: Path) -> list[str]:
    """Two groups in that copy, of a short and of the longest name, the second added to the first one's file."""
    made = outcrop(checkout, "new", "action-group", NAME)
    assert made.returncode == 0, made.stderr
    assert all(each in made.stdout for each in files_of(NAME))
    assert create(LONG, checkout) == 0
    return [NAME, LONG]


def test_what_was_written_passes_the_checks(checkout: Path, groups: list[str]) -> None:
    """Lint, format, types and import rules, as `make check` asks for them."""
    python = [each for name in groups for each in files_of(name)[:3]]
    for command in (("ruff", "check", *python), ("ruff", "format", "--check", *python)):
        checked = run(checkout, *command)
        assert checked.returncode == 0, checked.stdout
    config = checkout / "here.toml"
    config.write_text((checkout / "pyproject.toml").read_text("utf-8") + NOT_THE_SERVICE, "utf-8")
    typed = run(
        checkout, "mypy", "--config-file", config.name, *[each for each in python if not each.startswith("lambda/")]
    )
    assert typed.returncode == 0, typed.stdout + typed.stderr
    linter = Path(sys.executable).with_name("lint-imports")
    rules = subprocess.run([linter], cwd=checkout, capture_output=True, text=True, check=False)
    assert rules.returncode == 0, rules.stdout


def test_its_tests_pass(checkout: Path, groups: list[str]) -> None:
    """In this process, and as a Lambda function by both styles of events."""
    tests = [files_of(name)[2] for name in groups]
    passed = run(checkout, "pytest", "-n", "0", "-p", "no:cacheprovider", *tests, PYTEST_ADDOPTS="-v")
    assert passed.returncode == 0, passed.stdout
    assert "10 passed" in passed.stdout


def test_its_snapshot_is_what_the_named_command_writes(checkout: Path, groups: list[str]) -> None:
    """So that a change of the schema, which its test sees, can be agreed to."""
    command = ("tools", "schema", LONG, "--as", "function", "--as", "model", "--out", "now.json")
    snapshot = (checkout / files_of(LONG)[3]).read_text("utf-8")
    module = checkout / files_of(LONG)[0]
    module.write_text(module.read_text("utf-8").replace("Add an entry to", "Ask once more for"), "utf-8")
    assert outcrop(checkout, *command).returncode == 0
    assert (checkout / "now.json").read_text("utf-8") == snapshot.replace("Add an entry to", "Ask once more for")


def test_it_is_offered_and_called_and_not_overwritten(checkout: Path, groups: list[str]) -> None:
    """By the agent whose file it was added to; a comment there stays; a name is given once."""
    path = checkout / GROUPS
    path.write_text(f"# ours\n{path.read_text('utf-8')}", "utf-8")
    assert create("specimen_three", checkout) == 0
    assert path.read_text("utf-8").startswith("# ours\n")
    listed = outcrop(checkout, "tools", "list", "--json")
    tools = {each["group"]: [tool["name"] for tool in each["tools"]] for each in json.loads(listed.stdout)}
    for name in (*groups, "specimen_three"):
        assert tools[name] == [f"list_{name}", f"add_to_{name}"]
    event = ("--action", f"add_to_{NAME}", "--args", '{"text": "12"}', "--session", '{"customer_id": "1"}')
    called = json.loads(outcrop(checkout, "lambda", "invoke", NAME, *event).stdout)
    body = json.loads(called["response"]["functionResponse"]["responseBody"]["TEXT"]["body"])
    assert body["entry"]["text"] == "12"
    before = {name: (checkout / name).read_bytes() for name in (*files_of(NAME), str(GROUPS))}
    again = outcrop(checkout, "new", "action-group", NAME)
    assert again.returncode == 1
    assert again.stderr.startswith(f"{NAME} is taken by tools/{NAME}.py, ")
    assert {name: (checkout / name).read_bytes() for name in before} == before


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Refunds", "cannot be a group's name"),
        ("re-funds", "cannot be a group's name"),
        ("re__funds", "cannot be a group's name"),
        ("_refunds", "cannot be a group's name"),
        ("2refunds", "cannot be a group's name"),
        ("../refunds", "cannot be a group's name"),
        ("r" * 33, "cannot be a group's name"),
        ("", "cannot be a group's name"),
        ("class", "means something in Python"),
        ("match", "means something in Python"),
        ("json", "means something in Python"),
        ("notes", "is taken by"),
        ("executors", "is taken by"),
        ("coordinator", "is taken by"),
    ],
)
def test_other_names_are_refused(checkout: Path, name: str, why: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With the reason and the fix, and nothing written."""
    before = sorted(checkout.rglob("*.py"))
    assert create(name, checkout) == 1
    assert why in capsys.readouterr().err
    assert sorted(checkout.rglob("*.py")) == before


def test_only_a_checkout_gets_a_group(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Elsewhere it says what to do instead."""
    assert create(NAME, tmp_path) == 1
    told = capsys.readouterr().err
    assert "is no checkout of Outcrop" in told
    assert "module:" in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["{}\n", "{a: {executor: in_process}}\n", "a: [1\n", "a: {executor: nope}\n", "- a\n"])
def test_a_file_that_cannot_be_added_to_is_left_alone(
    checkout: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is written at all."""
    path = checkout / GROUPS
    kept = path.read_text("utf-8") if path.exists() else None
    path.write_text(text, "utf-8")
    try:
        assert create("specimen_four", checkout) == 1
        assert "cannot be added to" in capsys.readouterr().err
        assert path.read_text("utf-8") == text
        assert not (checkout / "tools" / "specimen_four.py").exists()
    finally:
        path.unlink() if kept is None else path.write_text(kept, "utf-8")


def test_a_broken_action_of_the_catalogue_is_one_clear_line(checkout: Path, database_url: str, redis_url: str) -> None:
    """Whatever command imports it: file, line, action and fix, exit code 1, no traceback."""
    module = checkout / "tools" / "notes.py"
    text = module.read_text("utf-8")
    line = text[: text.index("async def add_note")].count("\n")
    module.write_text(text.replace("        note_text: The note", "        note: The note"), "utf-8")
    stores = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "PF360_API_URL": "http://127.0.0.1:9"}
    try:
        for command in (("tools", "list"), ("serve", "--port", "0")):
            answer = outcrop(checkout, *command, PF360_JWT_SECRET="x" * 40, **stores)
            assert answer.returncode == 1
            assert answer.stderr.startswith(f"An action cannot be offered: tools/notes.py:{line}: add_note: no `Args:`")
            assert len(answer.stderr.splitlines()) == 1
    finally:
        module.write_text(text, "utf-8")


def test_a_service_whose_groups_cannot_run_says_why_and_ends(tmp_path: Path, database_url: str, redis_url: str) -> None:
    """All that is wrong at once, with the file; nothing else in the log; exit code 1."""
    agent = tmp_path / "agent"
    shutil.copytree(ROOT / "agent/definitions/scheduling", agent)
    configured = {
        "orders": {"executor": "lambda", "function": "nowhere.py:handler", "functions": "functions.json"},
        "mine": {"executor": "in_process", "module": "nowhere.mine"},
        "pay": {
            "executor": "http", "openapi": "pay.yaml", "hosts": ["pay.example"], "auth": {"value_from": "PAY_KEY"},
        },
    }  # fmt: skip
    file = agent / "action_groups.yaml"
    stores = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "PF360_API_URL": "http://127.0.0.1:9"}

    def started() -> list[str]:
        file.write_text(yaml.safe_dump(configured), "utf-8")
        answer = nursery.outcrop(
            "serve", "--port", "0", cwd=tmp_path, AGENT_DIR=str(agent), PF360_JWT_SECRET="x" * 40, **stores
        )
        assert answer.returncode == 1
        assert answer.stdout == ""
        return answer.stderr.splitlines()

    assert started() == [
        f"The tools cannot be used as {file} says:",
        "  action group mine: there is no module nowhere.mine; correct `module:`, or put its folder on PYTHONPATH",
        f"  action group orders: function: there is no file {agent / 'nowhere.py'}",
        "  action group pay: auth.value_from: PAY_KEY is not set",
    ]
    # What shows only when documents are read is told at once as well.
    configured = {
        name: {"executor": "http", "openapi": f"{name}.yaml", "hosts": ["pay.example"]} for name in ("one", "two")
    }
    head, *told = started()
    assert head == f"The tools cannot be used as {file} says:"
    assert [name for name in ("one.yaml", "two.yaml") if any(name in line for line in told)] == ["one.yaml", "two.yaml"]
