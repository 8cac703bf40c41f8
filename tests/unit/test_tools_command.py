"""`outcrop tools`: lists, schemas and pages of an agent's groups, and what is said of an agent that is broken."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from backend.cli.commands import app
from backend.settings import AGENT
from tools.catalogue import ACTIONS

MODULE = '''\
"""The parcels group: where things are."""

from tools.action import action
from tools.contract import JsonObject, ToolContext


@action(group="parcels", effect="read")
async def find_parcel(
    number: int, street: str, ctx: ToolContext, a: int = 1, b: int = 1, c: int = 1, d: int = 1
) -> JsonObject:
    """Find a parcel.

    Args:
        number: Its number.
        street: Where it goes.
        a: One.
        b: Two.
        c: Three.
        d: Four.
    """
    return {}


ACTIONS = (find_parcel,)
'''


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with an agent of its own, whose modules can be imported."""
    folder = tmp_path / "agent"
    shutil.copytree(AGENT, folder)
    (folder / "action_groups.yaml").unlink(missing_ok=True)
    monkeypatch.setenv("AGENT_DIR", str(folder))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def outcrop(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["tools", *arguments])


def write_groups(agent: Path, text: str) -> None:
    (agent / "action_groups.yaml").write_text(text, "utf-8")


def test_all_tools_are_listed_by_group(agent: Path) -> None:
    """For people, and as JSON with the schemas."""
    groups = json.loads(outcrop("list", "--json").stdout)
    listed = {each["name"]: each for group in groups for each in group["tools"]}
    assert list(listed) == [each.name for each in ACTIONS]
    for each in ACTIONS:
        assert listed[each.name]["effect"] == each.spec.effect
        assert listed[each.name]["roles"] == sorted(each.roles)
        assert listed[each.name]["parameters"] == each.spec.parameters
    text = outcrop("list").stdout
    assert "scheduling (in_process)\n" in text
    assert all(each.name in text and each.spec.description in text for each in ACTIONS)


def test_a_schema_comes_in_every_form(tmp_path: Path) -> None:
    """One is written as it is, several by their names; YAML holds the same as JSON."""
    function = json.loads(outcrop("schema", "notes", "--as", "function").stdout)
    assert [each["name"] for each in function["functions"]] == ["add_note", "list_notes"]
    openapi = json.loads(outcrop("schema", "notes", "--as", "openapi").stdout)
    assert set(openapi["paths"]) == {"/add-note", "/list-notes"}
    both = json.loads(outcrop("schema", "notes", "--as", "model", "--as", "mcp").stdout)
    assert [each["function"]["name"] for each in both["model"]] == ["add_note", "list_notes"]
    assert [each["inputSchema"] for each in both["mcp"]] == [each["function"]["parameters"] for each in both["model"]]
    out = tmp_path / "made" / "notes.yaml"
    assert outcrop("schema", "notes", "--as", "openapi", "--out", str(out)).exit_code == 0
    assert yaml.safe_load(out.read_text("utf-8")) == openapi
    assert "&id" not in out.read_text("utf-8")


def test_a_group_of_a_module_is_shown_as_well(agent: Path, tmp_path: Path) -> None:
    """Beside groups of others, whose tools are known only when the service runs."""
    (tmp_path / "parcels.py").write_text(MODULE, "utf-8")
    write_groups(
        agent,
        "parcels: {executor: in_process, module: parcels}\n"
        "far: {executor: mcp, url: 'http://127.0.0.1:9/mcp'}\n",
    )  # fmt: skip
    listed = {each["group"]: each for each in json.loads(outcrop("list", "--json").stdout)}
    assert [each["name"] for each in listed["parcels"]["tools"]] == ["find_parcel"]
    assert listed["far"] == {"group": "far", "executor": "mcp", "tools": None}
    assert "far (mcp)\n  tools of others" in outcrop("list").stdout

    page = outcrop("docs", "parcels").stdout
    assert page.startswith("# parcels\n\nThe parcels group: where things are.\n")
    assert outcrop("docs", "--out", "pages").exit_code == 0
    assert (tmp_path / "pages" / "parcels.md").read_text("utf-8").strip() == page.strip()
    assert not (tmp_path / "pages" / "far.md").exists()

    assert outcrop("schema", "parcels", "--as", "openapi").exit_code == 0
    refused = outcrop("schema", "parcels", "--as", "function")
    assert refused.exit_code == 1
    assert "parcels.py:7: find_parcel: it has 6 parameters" in refused.stderr
    theirs = outcrop("schema", "far", "--as", "model")
    assert theirs.exit_code == 1
    assert "Action group far holds tools of others (mcp)" in theirs.stderr


def test_an_unknown_group_is_told_with_those_there_are(agent: Path) -> None:
    """Exit code 1, no traceback."""
    for command in (("schema", "nope", "--as", "model"), ("docs", "nope")):
        answer = outcrop(*command)
        assert answer.exit_code == 1
        assert answer.stderr == (
            "There is no action group nope. There are: "
            "scheduling, information, knowledge, notes, handover, coordinator.\n"
        )


def test_a_broken_file_is_told_whole(agent: Path) -> None:
    """Every mistake at once, with file, key and fix."""
    write_groups(
        agent,
        "a: {executor: lamda}\nb: {executor: http, hosts: [x]}\nc: {executor: in_process, modul: x}\nd: {module: x}\n",
    )
    answer = outcrop("list")
    assert answer.exit_code == 1
    head, *told = answer.stderr.splitlines()
    assert head == "The configuration cannot be used:"
    where = f"  AGENT_DIR: {agent / 'action_groups.yaml'}: "
    assert all(each.startswith(where) for each in told)
    assert told[0].startswith(f"{where}a: Input tag 'lamda'")
    assert told[1] == f"{where}b.http.openapi: is missing; add it"
    assert told[2] == f"{where}c.in_process.modul: is no key of this place; remove it, or look at its spelling"
    assert told[3] == f"{where}d: says no `executor`; add one of in_process, lambda, http, mcp, client"

    write_groups(agent, "a:\n  b: [1\n")
    (agent / "es.yaml").write_text("a: 'b\n", "utf-8")
    told = outcrop("list").stderr.splitlines()[1:]
    assert [each.split(": ")[1] for each in told] == [f"{agent / 'action_groups.yaml'}:3", f"{agent / 'es.yaml'}:2"]


def test_broken_modules_are_told_all_at_once(agent: Path, tmp_path: Path) -> None:
    """Each with file and line, where there is one, and no traceback."""
    undescribed = MODULE.replace("        number: Its number.\n", "")
    (tmp_path / "undescribed.py").write_text(undescribed, "utf-8")
    (tmp_path / "unreadable.py").write_text("x = 1\ny = = 2\n", "utf-8")
    (tmp_path / "unlucky.py").write_text("def f():\n    return missing\n\n\nf()\n", "utf-8")
    (tmp_path / "asking.py").write_text("import no_such_library\n", "utf-8")
    (tmp_path / "empty.py").write_text("ACTIONS = [1]\n", "utf-8")
    (tmp_path / "other.py").write_text(MODULE, "utf-8")
    modules = ("undescribed", "unreadable", "unlucky", "asking", "empty", "other", "nowhere.at_all")
    write_groups(agent, "".join(f"g{n}: {{executor: in_process, module: {m}}}\n" for n, m in enumerate(modules)))
    answer = outcrop("list")
    assert answer.exit_code == 1
    assert "Traceback" not in answer.stderr
    head, *told = answer.stderr.splitlines()
    assert head == f"The tools cannot be used as {agent / 'action_groups.yaml'} says:"
    expected = [
        "g0: undescribed.py:7: find_parcel: no `Args:` entry for number",
        "g1: module unreadable cannot be imported: unreadable.py:2: SyntaxError",
        "g2: module unlucky cannot be imported: unlucky.py:2: NameError: name 'missing' is not defined",
        "g3: module asking cannot be imported: asking.py:1: ModuleNotFoundError: No module named 'no_such_library'",
        "g4: module empty has no tuple ACTIONS of its actions",
        "g5: module other has no action of this group",
        "g6: there is no module nowhere.at_all; correct `module:`, or put its folder on PYTHONPATH",
    ]
    assert len(told) == len(expected)
    for line, start in zip(told, expected, strict=True):
        assert line.startswith(f"  action group {start}"), line
