"""What the documents say exists: commands, keys, files, tools, error codes. And what they must not say."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

from agent.errors import OutcropError
from backend.cli.commands import app
from backend.embedded.pf360_simulator.fixture import FIXTURE_PATH
from backend.settings import Settings
from tools.catalogue import ACTIONS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
DECISIONS = ROOT / "docs" / "decisions"

# Code between backquotes, or a line of an indented or fenced block.
CODE = re.compile(r"`([^`\n]+)`|^(?: {4}|\t)(.+)$", re.MULTILINE)
FENCE = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
MAKE = re.compile(r"(?:^|[\s;&|(])make((?: +[A-Z_]+=(?:\"[^\"]*\"|\S+))*) +([a-z]\w*)")
OUTCROP = re.compile(r"(?:^|[\s/])outcrop +([a-z]+)\b")
LINK = re.compile(r"\]\(([^)\s]+)\)")
KEY_ROW = re.compile(r"^\| `([A-Z][A-Z0-9_]+)` \|", re.MULTILINE)
MODULE = re.compile(r"`((?:agent|backend|tools|tests|frontend|scripts|docs)/[\w./-]+)`")
# Places of one machine, and words about how the project came to be in place of what it is.
UNWANTED = re.compile(
    r"(?<![\w.])/(?:home|root|work|Users)/\w|\bshared/(?:[A-Z]{4}|reference|bench|hooks)"
    r"|\b(?:scheduling-domain|DESIGN|STYLE)\.md|\bissue #?\d|\b(?:session of work|TODO|FIXME|XXX|Claude|Copilot)\b"
    r"|\b(?:AI|LLM|agent|assistant)[- ](?:wrote|written|generated)\b"
)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def code_in(text: str) -> str:
    """Everything that stands as code, a piece a line."""
    fenced = "\n".join(FENCE.findall(text))
    rest = FENCE.sub("", text)
    return fenced + "\n" + "\n".join(a or b for a, b in CODE.findall(rest))


def tracked(*patterns: str) -> list[Path]:
    """Files that belong to the project; outside of a checkout, those that are there."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", *patterns],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        return [path for pattern in patterns for path in ROOT.rglob(pattern) if ".venv" not in path.parts]
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]\w*):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_command_that_is_named_exists(document: Path) -> None:
    code = code_in(document.read_text("utf-8"))
    commands = {each.name or (each.callback.__name__ if each.callback else "") for each in app.registered_commands}
    commands |= {each.name for each in app.registered_groups if each.name}
    assert {target for _, target in MAKE.findall(code)} <= make_targets()
    assert set(OUTCROP.findall(code)) <= commands


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    for target in LINK.findall(document.read_text("utf-8")):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, section = unquote(target).partition("#")
        found = (document.parent / path).resolve() if path else document
        assert found.exists(), f"{name_of(document)} links to {target}"
        if section:
            assert section in anchors(found), f"{name_of(document)} links to {target}"


def anchors(document: Path) -> set[str]:
    """The sections of a document as links name them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_file_that_is_named_exists(document: Path) -> None:
    for path in MODULE.findall(document.read_text("utf-8")):
        built = path.startswith(("frontend/dist", "frontend/node_modules", "backend/static"))
        assert built or (ROOT / path.rstrip("/")).exists(), f"{name_of(document)} names {path}"


def test_the_key_table_of_the_readme_is_the_settings() -> None:
    """Every key, no other, each once."""
    assert sorted(KEY_ROW.findall(README)) == sorted(key.upper() for key in Settings.model_fields)


def test_the_readme_says_the_defaults() -> None:
    """Numbers and names in the second column are those of the code."""
    rows = re.findall(r"^\| `([A-Z][A-Z0-9_]+)` \| `([^`]+)` \|", README, re.MULTILINE)
    assert len(rows) > 10
    for key, shown in rows:
        default = Settings.model_fields[key.lower()].default
        expected = f"{default:g}" if isinstance(default, bool | float) else str(default)
        assert shown == expected, key


def test_the_readme_names_every_demo_identity() -> None:
    personas = yaml.safe_load(FIXTURE_PATH.read_text("utf-8"))["fixture"]["personas"]
    table = README.split("| Identity | Who |")[1].split("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", table)) == set(personas)


def test_the_catalogue_of_tools_is_complete() -> None:
    """Each tool with its effect and all its arguments."""
    page = (ROOT / "docs" / "tools.md").read_text("utf-8")
    for action in ACTIONS:
        spec = action.spec
        row = re.search(rf"^\| `{spec.name}` \| (\w+) \| ([^|]*) \|", page, re.MULTILINE)
        assert row, spec.name
        assert row[1] == spec.effect
        assert set(re.findall(r"`(\w+)`", row[2])) == set(spec.parameters.get("properties", {}))


def test_every_code_that_a_caller_may_get_is_explained() -> None:
    """Those of classes that are only a parent of others, or never leave the process, are not."""
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    inside = {"conflict", "model_error", "unauthenticated", "lease_lost"}
    codes = {each.code for each in descendants(OutcropError)} - inside
    assert {code for code in codes if f"`{code}`" not in page} == set()


def descendants(parent: type[OutcropError]) -> list[type[OutcropError]]:
    found = parent.__subclasses__()
    return [*found, *(each for child in found for each in descendants(child))]


def test_the_index_of_decisions_is_complete() -> None:
    index = (DECISIONS / "README.md").read_text("utf-8")
    pages = sorted(path for path in DECISIONS.glob("*.md") if path.name != "README.md")
    assert sorted(LINK.findall(index)) == [path.name for path in pages]
    for number, page in enumerate(pages, 1):
        title = page.read_text("utf-8").splitlines()[0]
        assert title.startswith(f"# {number}. ")
        assert title.split(". ", 1)[1] in index


def test_no_file_speaks_of_another_place_or_time() -> None:
    """The project stands alone: no path of one machine, no word on how it was made, nothing left for later."""
    names = ("*.md", "*.py", "*.yaml", "*.toml", "*.ts", "*.tsx", "Makefile", ".ci/run", "scripts/*", "frontend/*.json")
    found = [
        f"{name_of(path)}:{number}: {hit.group()}"
        for path in tracked(*names)
        if path != Path(__file__) and path.name != "package-lock.json"
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if (hit := UNWANTED.search(line))
    ]
    assert found == []
