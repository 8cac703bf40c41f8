"""Every scenario file in the repository can be read, makes sense, and can be passed."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from backend.evaluation.judge import judge
from backend.evaluation.scenario import Scenario, ScenarioError, ScenarioFile, load_scenarios
from backend.evaluation.world import World
from tests.unit.evaluation_oracle import case_for

SCENARIOS = Path(__file__).parent.parent / "scenarios"
FILES = sorted(SCENARIOS.glob("*.yaml"))
LOADED = [load_scenarios(path) for path in FILES]
EVERY = [pytest.param(file, scenario, id=scenario.id) for file in LOADED for scenario in file.scenarios]


def test_public_file_is_complete() -> None:
    """The 25 public conversations are all there, on the simulator's own seed."""
    (public,) = [file for file in LOADED if file.kind == "public"]
    assert [scenario.id for scenario in public.scenarios] == [f"P{number:02d}" for number in range(1, 26)]
    assert not public.inline


def test_ids_are_unique_over_all_files() -> None:
    """A failure names one scenario."""
    ids = [scenario.id for file in LOADED for scenario in file.scenarios]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(("file", "scenario"), EVERY)
def test_scenario_can_be_passed(file: ScenarioFile, scenario: Scenario) -> None:
    """A product that does exactly what is asked passes: no expectation contradicts another."""
    verdict = judge(case_for(file, scenario))
    assert [str(reason) for reason in verdict.reasons] == []


@pytest.mark.parametrize(("file", "scenario"), EVERY)
def test_expected_slots_exist(file: ScenarioFile, scenario: Scenario) -> None:
    """A booking that must be committed is one that the simulator offers."""
    world = World(file.fixture)
    view = world.view(scenario.persona)
    for alternative in scenario.write_lists:
        for write in alternative:
            project_id = write.args.get("project_id")
            if isinstance(project_id, str) and project_id != "*":
                assert project_id in view.projects, f"{write} is not this persona's"
            day, time = (write.args.get(f"{new}{name}") for name in ("date", "time") for new in [_prefix(write.tool)])
            if isinstance(day, str) and isinstance(time, str) and isinstance(project_id, str):
                assert date.fromisoformat(day) > world.now.date()
                freed = {s[:16] for p in view.projects.values() if (s := p.start)}
                assert time in view.projects[project_id].availability.get(day, ()) or f"{day}T{time}" in freed


def _prefix(tool: str) -> str:
    return "new_" if tool == "reschedule_appointment" else ""


def write(path: Path, body: str) -> Path:
    path.write_text(f"schema_version: 1\nkind: test\nfixture: default\n{body}", "utf-8")
    return path


GOOD = """
scenarios:
- id: T1
  persona: c1
  turns:
    - user: hello
      route: chitchat
      gate: none
  writes: []
"""


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("writes: []", "write: []", "T1: write: "),
        ("user: hello", "user: hello\n      cals: []", "T1: turns.0.cals: "),
        ("gate: none", "gate: maybe", "T1: turns.0.gate.0: "),
        ("route: chitchat", "route: sales", "T1: turns.0.route.0: "),
        ("persona: c1", "persona: c9", "T1: persona: c9"),
        ("gate: none", "gate: none\n      say: ['dat:2026-03-11']", "T1: turns.0.say.0: "),
        ("gate: none", "gate: none\n      say: ['date:2026-02-30']", "T1: turns.0.say.0: "),
        ("gate: none", "gate: none\n      say: ['re:(']", "T1: turns.0.say.0: "),
        ("gate: none", "gate: none\n      say: ['project:499999']", "T1: turns.0: project:499999"),
        ("gate: none", "gate: none\n      kb: [faq-99]", "T1: turns.0.kb: faq-99"),
        ("gate: none", "gate: none\n      calls: [{args: {}}]", "T1: turns.0.calls.0: "),
        ("gate: none", "gate: none\n      calls: [{tool: add_note, args: {note_text: {contain: [x]}}}]", "contain"),
        ("writes: []", "writes: []\n  writes_any: [[]]", "T1: "),
        ("writes: []", "writes: []\n  faults: [{before_turn: 2, endpoint: dates, mode: timeout}]", "before_turn 2"),
        ("writes: []", "writes: []\n  writes: []", "given twice"),
        ("writes: []", "writes: []\n- id: T1\n  persona: c1\n  turns: [{user: x}]", "used twice"),
        ("writes: []", "writes: []\n  never: [{tool: add_note, reply_re: x}]", "T1: never.0: "),
        ("writes: []", "writes: []\n  end_state: {project: {}}", "T1: end_state.project: "),
        ("scenarios:", "extra: 1\nscenarios:", "extra: unknown key"),
        ("scenarios:", "defaults: {max_calls: 3}\nscenarios:", "defaults: max_calls: "),
    ],
)
def test_faulty_files_are_refused(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    """What cannot be understood is named with file, scenario and key, never ignored."""
    path = write(tmp_path / "broken.yaml", GOOD.replace(old, new, 1))
    with pytest.raises(ScenarioError) as raised:
        load_scenarios(path)
    assert "broken.yaml" in str(raised.value)
    assert complaint in str(raised.value)


def test_times_and_dates_stay_text(tmp_path: Path) -> None:
    """An unquoted 10:00 is no number of seconds, an unquoted date no object."""
    call = "calls: [{tool: get_time_slots, args: {date: 2026-03-16, time: 10:00}}]"
    file = load_scenarios(write(tmp_path / "plain.yaml", GOOD.replace("gate: none", call)))
    assert file.scenarios[0].turns[0].calls[0].args == {"date": "2026-03-16", "time": "10:00"}


def test_inline_fixture_is_kept(tmp_path: Path) -> None:
    """A file may bring its own seed."""
    seed = "{personas: {c1: {role: customer}}, projects: [], kb_documents: []}"
    path = tmp_path / "own.yaml"
    path.write_text(f"schema_version: 1\nkind: test\nfixture: {seed}\n{GOOD}", "utf-8")
    file = load_scenarios(path)
    assert file.inline
    assert file.fixture["personas"] == {"c1": {"role": "customer"}}
