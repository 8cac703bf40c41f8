"""The evaluator on the real product: what passes, passes; a copy that expects something else fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backend.evaluation.command import main

PUBLIC = Path(__file__).parent.parent / "scenarios" / "public.yaml"
IDS = "P02,P06,P07,P24"
# What the copies expect otherwise, and the rule that must notice.
MUTANTS = {
    "P02": (
        'end_state: {projects: {"410001": {status: "Tentatively',
        'end_state: {projects: {"410001": {status: "Very',
        "end_state",
    ),
    "P06": (
        'writes: [{tool: reschedule_appointment, args: {project_id: "410002"',
        'writes: [{tool: reschedule_appointment, args: {project_id: "410001"',
        "writes",
    ),
    "P07": ('say: ["project:420002", "date:2026-03-19"]', 'say: ["project:420002", "date:2026-03-20"]', "say"),
    "P24": ("faults: [{before_turn: 2, endpoint: schedule", "faults: [{before_turn: 2, endpoint: weather", "writes"),
}


def test_public_scenarios_pass_and_changed_copies_fail(tmp_path: Path) -> None:
    """Both in one run over isolated stacks, so that the stacks are started once."""
    text = PUBLIC.read_text("utf-8")
    for key, (old, new, _) in MUTANTS.items():
        assert old in text
        text = text.replace(old, new, 1).replace(f"- id: {key}\n", f"- id: M{key}\n")
    (tmp_path / "mutants.yaml").write_text(text, "utf-8")
    found = tmp_path / "report.json"
    ids = ",".join([IDS, *(f"M{key}" for key in MUTANTS)])
    chosen = ["--ids", ids, "--jobs", "2", "--json", str(found)]
    assert main([str(PUBLIC), str(tmp_path / "mutants.yaml"), *chosen]) == 1
    report = json.loads(found.read_text("utf-8"))
    passed = {key for key, scenario in report["scenarios"].items() if scenario["passed"]}
    assert passed == set(IDS.split(",")), [s["routes"] for key, s in report["scenarios"].items() if key in IDS]
    for key, (_, _, rule) in MUTANTS.items():
        (run,) = report["scenarios"][f"M{key}"]["routes"].values()
        assert rule in {reason["rule"] for reason in run["reasons"]}
    assert report["total"] == 8


def test_a_server_with_a_running_clock_is_not_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """`--url` without a simulator to reset says what is missing."""
    monkeypatch.setenv("OUTCROP_DATA_DIR", str(tmp_path))
    assert main([str(PUBLIC), "--url", "http://127.0.0.1:9"]) == 2
    assert "PF360_ADMIN_URL" in capfd.readouterr().err
