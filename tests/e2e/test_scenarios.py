"""The scenario files on the real product: own stacks, public API, simulator."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCENARIOS = Path(__file__).parents[1] / "scenarios"


def evaluate(tmp_path: Path, *names: str) -> dict[str, object]:
    """The report of one run over these files."""
    report = tmp_path / "report.json"
    files = [str(SCENARIOS / f"{name}.yaml") for name in names]
    command = [sys.executable, "-m", "backend", "eval", *files, "--jobs", "2", "--min", "0"]
    done = subprocess.run([*command, "--json", str(report)], capture_output=True, text=True, timeout=300, check=False)
    assert report.exists(), done.stdout + done.stderr
    result: dict[str, object] = json.loads(report.read_text("utf-8"))
    return result


def test_the_public_conversations_and_the_coordinators_all_pass(tmp_path: Path) -> None:
    """Every one whose parts exist passes, and nothing is written or said that must not be: of routes, checks, conflicts
    and assignments, too, and of everybody who must not have them."""
    report = evaluate(tmp_path, "public", "coordinator")
    assert report["passed"] == report["total"] == 62
    assert report["wrong_writes"] == 0


def test_unlike_conversations_do_no_harm(tmp_path: Path) -> None:
    """Other people's conversations: most pass; none ends in a wrong write or breaks a standing rule."""
    report = evaluate(tmp_path, "holdout", "fresh")
    passed, total = report["passed"], report["total"]
    assert isinstance(passed, int)
    assert isinstance(total, int)
    assert passed >= 0.95 * total
    assert report["wrong_writes"] == 0
    assert isinstance(report["violations"], dict)
    assert not any(report["violations"].values())
