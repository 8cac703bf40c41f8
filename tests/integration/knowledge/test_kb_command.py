"""`outcrop kb …` and `python -m knowledge_base.loading` as somebody at a terminal meets them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from tests.nursery import environment, outcrop

NONE = {"KB_EMBEDDING": "none"}


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """Five documents, one of which nobody may take."""
    folder = tmp_path / "docs"
    folder.mkdir()
    for name, text in {"owls": "Owls hunt at night.", "cranes": "Cranes dance.", "emus": "Emus run."}.items():
        (folder / f"{name}.md").write_text(f"# About {name}\n\n{text}\n")
    (folder / "owls.md.metadata.json").write_text(json.dumps({"metadataAttributes": {"topic": "night"}}))
    (folder / "table.txt").write_text("bird legs owl 2\n")
    (folder / "link.md").symlink_to("/etc/passwd")
    return folder


def test_from_a_folder_to_an_answer_and_back(docs: Path, tmp_path: Path, database_url: str) -> None:
    """Load, look, search, change, delete: each says what it did, for a person and for a program."""

    def kb(*arguments: str, code: int = 0, stdin: str = "") -> str:
        done = outcrop("kb", *arguments, cwd=tmp_path, stdin=stdin, DATABASE_URL=database_url, **NONE)
        assert done.returncode == code, (done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stdout

    first = kb("load", "docs", code=1)
    assert "refused  link.md (symlink)" in first
    again = json.loads(kb("sync", "docs", "--json", code=1))
    assert {n: c for n, c in again["counts"].items() if c} == {"found": 5, "unchanged": 4, "refused": 1}
    assert [(each["doc_id"], each["reason"]) for each in again["documents"]] == [("link.md", "symlink")]
    assert [each["doc_id"] for each in json.loads(kb("status", "--job", again["job"], "--json"))["documents"]] == [
        "link.md"
    ]

    (status,) = json.loads(kb("status", "--json"))
    assert (status["documents"], status["runs"][0]["state"]) == (4, "done")
    assert kb("status", "--jobs").count("done") == 2
    assert status["id"] in kb("bases")
    assert [each["doc_id"] for each in json.loads(kb("list", "--json"))] == [
        "cranes.md",
        "emus.md",
        "owls.md",
        "table.txt",
    ]
    assert kb("list", "--filter", '{"equals": {"key": "topic", "value": "night"}}').count(".md") == 1
    assert kb("show", "owls.md", "--stage", "raw").encode() == (docs / "owls.md").read_bytes()
    assert "Owls hunt" in kb("show", "owls.md", "--stage", "parsed")
    assert "About owls" in kb("show", "owls.md", "--stage", "chunks")
    assert json.loads(kb("show", "owls.md", "--json"))["attributes"] == {"topic": "night"}
    found = json.loads(kb("search", "who hunts at night", "--mode", "lexical", "--json"))
    assert found["passages"][0]["doc_id"] == "owls.md"
    assert "owls.md v1" in kb("search", "hunt night")
    assert "Nothing found" in kb("search", "zebras")
    assert "fit together" in kb("verify")

    assert "Delete emus.md from default?" in kb("delete", "emus.md", code=1, stdin="n\n")
    assert "1 deleted" in kb("delete", "emus.md", "--yes")
    assert "1 were not there" in kb("delete", "emus.md", "--yes", code=1)
    for name in ("owls.md", "cranes.md", "table.txt", "link.md", "owls.md.metadata.json", "emus.md"):
        (docs / name).unlink()
    kb("sync", "docs", code=3)
    assert "3 deleted" in kb("delete", "--source", docs.as_uri(), "--yes")
    assert names(kb("list", "--json")) == []
    assert len(names(kb("list", "--deleted", "--json"))) == 4


def test_without_a_database_one_is_started_for_as_long_as_it_takes(docs: Path) -> None:
    """By whatever loads; there is nothing to show before."""
    # Directly below the temporary folder, where the account that root's PostgreSQL runs as can reach it.
    with TemporaryDirectory(prefix="outcrop-kb-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        nothing = outcrop("kb", "list", cwd=folder, **NONE)
        assert (nothing.returncode, nothing.stderr.count("No PostgreSQL of ours")) == (2, 1)
        done = outcrop("kb", "load", str(docs / "owls.md"), "--json", cwd=folder, **NONE)
        assert (done.returncode, json.loads(done.stdout)["counts"]["new"]) == (0, 1), done.stderr
        running = [each.info["cmdline"] or () for each in psutil.process_iter(["cmdline"])]
        assert [line for line in running if name in " ".join(line)] == []


def names(listed: str) -> list[str]:
    return [each["doc_id"] for each in json.loads(listed)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("load",), "PATH: is missing"),
        (("load", "nowhere"), "there is no nowhere"),
        (("load", "x" * 5000), "there is no xxx"),
        (("load", "https://a.example/"), "--urls FILE"),
        (("load", "s3://NO/x"), "s3://bucket/folder"),
        (("load", "--urls", "missing.txt"), "missing.txt cannot be read"),
        (("sync", ".", "--allow-delete-percent", "200"), "100"),
        (("search", "x", "--filter", "{"), "no JSON"),
        (("search", "x", "--filter", '{"equals": {"key": "a"}}'), "--filter.equals"),
        (("search", "x", "--base", "unknown"), "no knowledge base 'unknown'"),
        (("delete",), "Name documents"),
    ],
)
def test_what_cannot_be_meant_is_said(arguments: tuple[str, ...], said: str, tmp_path: Path, database_url: str) -> None:
    """With exit code 2, and what would be right."""
    done = outcrop("kb", *arguments, cwd=tmp_path, DATABASE_URL=database_url, **NONE)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert said in done.stderr


def test_the_package_loads_by_itself(docs: Path, tmp_path: Path, database_url: str) -> None:
    """Without the service: nothing of it is imported."""
    watch = (
        "import sys, runpy\n"
        "sys.argv[0] = 'loading'\n"
        "try: runpy.run_module('knowledge_base.loading', run_name='__main__')\n"
        "finally: assert not {'backend', 'agent', 'tools', 'fastapi', 'langgraph'} & sys.modules.keys()\n"
    )

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        env = environment(**NONE, **more)
        command = [sys.executable, "-c", watch, *arguments]
        return subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True)

    done = run("sync", "docs", DATABASE_URL=database_url)
    assert done.returncode == 1, done.stderr
    assert "5 documents, 4 new" in done.stdout
    assert "refused: link.md" in done.stderr
    assert run("sync", "docs").stderr.startswith("DATABASE_URL: ")
