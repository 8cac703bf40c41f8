"""Which routes a run compares, and where their model traffic goes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from backend.app import taped
from backend.evaluation.command import main
from backend.evaluation.routes import RouteError, Tapes, routes_of
from backend.settings import SettingsError, load_settings
from tests.doubles.scripted_model import scripted

PUBLIC = Path(__file__).parents[1] / "scenarios" / "public.yaml"
MODELS = """
providers:
  big: {kind: openai, model: big-1, api_key_env: KEY_OF_BIG}
routes:
  default: {primary: big}
  planner: {primary: offline}
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder without a `.env`, and nothing of a model configured."""
    monkeypatch.chdir(tmp_path)
    for name in ("LLM_PROVIDER", "LLM_MODEL", "LLM_API_KEY", "OPENAI_API_KEY", "MODELS_FILE", "MODEL_ROUTE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    path = tmp_path / "models.yaml"
    path.write_text(MODELS, "utf-8")
    return path


def test_routes_are_those_of_the_models_file(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each product is told one of them, and finds the file from wherever it runs."""
    monkeypatch.setenv("KEY_OF_BIG", "k")
    found = routes_of(load_settings(models_file=Path("models.yaml")), ["planner", "default"])
    assert [(route.name, route.environment["MODEL_ROUTE"]) for route in found] == [
        ("planner", "planner"),
        ("default", "default"),
    ]
    assert {route.environment["MODELS_FILE"] for route in found} == {str(models)}
    (configured,) = routes_of(load_settings(models_file=models), [])
    assert configured.name == "default"


def test_without_a_models_file_a_route_is_a_provider() -> None:
    """Whatever LLM_PROVIDER may be; without a name, what it is."""
    found = routes_of(load_settings(llm_provider="local", llm_model="m", llm_api_url="http://127.0.0.1:9/v1"), [])
    assert [(route.name, route.environment["LLM_PROVIDER"]) for route in found] == [("local", "local")]
    assert [route.name for route in routes_of(load_settings(), ["offline"])] == ["offline"]


def test_wrong_routes_are_refused_before_anything_starts(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown ones with those that exist, and those that are not configured with what is missing."""
    monkeypatch.setenv("KEY_OF_BIG", "k")
    with pytest.raises(RouteError, match=r"no route small in .*; there are default, planner"):
        routes_of(load_settings(models_file=models), ["small"])
    with pytest.raises(RouteError, match=r"no route big.*one of offline, openai"):
        routes_of(load_settings(), ["big"])
    with pytest.raises(RouteError, match="twice"):
        routes_of(load_settings(), ["offline", "offline"])
    with pytest.raises(SettingsError, match="--route local: LLM_API_URL"):
        routes_of(load_settings(), ["offline", "local"])


def test_a_replay_needs_no_key(models: Path) -> None:
    """What is missing gets a value that says so."""
    with pytest.raises(SettingsError, match="KEY_OF_BIG is not set"):
        routes_of(load_settings(models_file=models), ["default"])
    (route,) = routes_of(load_settings(models_file=models), ["default"], replays=True)
    assert route.environment["KEY_OF_BIG"] == "not needed to replay"
    assert load_settings(llm_provider="openai", llm_model="m", model_tape=models, model_tape_mode="replay").is_replaying


def test_a_recording_has_a_folder_for_each_route_and_a_file_for_each_stack(tmp_path: Path) -> None:
    """And each stack replays all of its route's."""
    folder = tmp_path / "tapes"
    recorded = Tapes(folder)
    recorded.check(["a", "b"])
    assert recorded.of("a", 2) == {"MODEL_TAPE": f"{folder}/a/stack-2.jsonl", "MODEL_TAPE_MODE": "record"}
    replayed = Tapes(folder, replays=True)
    replayed.check(["b"])
    assert replayed.of("b", 7) == {"MODEL_TAPE": f"{folder}/b", "MODEL_TAPE_MODE": "replay"}
    with pytest.raises(RouteError, match="is not empty"):
        recorded.check(["a"])
    with pytest.raises(RouteError, match="no recording of c; it has a, b"):
        replayed.check(["b", "c"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--record", "x", "--replay", "x"], "exclude each other"),
        (["--replay", "absent"], "no recording of offline; it has none"),
        (["--route", "nobody"], "no route nobody"),
        (["--html", "absent/report.html"], "absent/report.html: name a file in an existing folder"),
        (["--url", "http://127.0.0.1:9", "--route", "offline"], "not for --url"),
    ],
)
def test_options_that_do_not_go_together(capfd: pytest.CaptureFixture[str], options: list[str], said: str) -> None:
    """Exit code 2, with the reason."""
    assert main([str(PUBLIC), *options]) == 2
    assert said in capfd.readouterr().err


def test_wrong_settings_of_a_tape_are_told(tmp_path: Path) -> None:
    """Each with its fix: half of the two, and a recording that is not there."""
    with pytest.raises(SettingsError, match="MODEL_TAPE_MODE: is needed with MODEL_TAPE: record or replay"):
        load_settings(model_tape=tmp_path / "t.jsonl")
    with pytest.raises(SettingsError, match="MODEL_TAPE: is needed with MODEL_TAPE_MODE=record"):
        load_settings(model_tape_mode="record")
    with pytest.raises(SettingsError, match="MODEL_TAPE: there is no"):
        load_settings(model_tape=tmp_path / "t.jsonl", model_tape_mode="replay")


def test_models_are_taped_and_the_planner_is_not(tmp_path: Path) -> None:
    """As the settings say; a file that is no tape is a wrong setting."""
    (tmp_path / "t.jsonl").write_text("nonsense\n")
    provider, _ = scripted([])
    untaped = load_settings()
    replays = load_settings(model_tape=tmp_path / "t.jsonl", model_tape_mode="replay")
    records = load_settings(model_tape=tmp_path / "new.jsonl", model_tape_mode="record")
    assert taped(provider, untaped) is provider
    assert taped(provider, records).wire is not provider.wire
    planner = replace(provider, name="offline")
    assert taped(planner, replays) is planner
    with pytest.raises(SettingsError, match=r"MODEL_TAPE: .*t\.jsonl, line 1"):
        taped(provider, replays)
