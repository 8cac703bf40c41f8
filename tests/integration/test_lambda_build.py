"""Archives of groups: the same bytes twice, complete in themselves, and running under the local service."""

from __future__ import annotations

import json
import os
import platform
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from backend.cli import lambda_build
from backend.identity.directory import load_deployment
from backend.lambdas.archive import MACHINES, Arch, Archive, build, install_wheels
from backend.lambdas.cold_start import ColdStart, ImportFails, interpreter_for, measure
from backend.lambdas.functions import Function
from backend.settings import load_settings
from tests.integration.lambda_service import client, running

PYTHON = ".".join(platform.python_version_tuple()[:2])
HERE: Arch = next(arch for arch, machine in MACHINES.items() if machine == platform.machine())
PROBE = """
import json
import handler as ours
import httpx, orjson, pydantic, tools


def handler(event, context):
    modules = (ours, httpx, orjson, pydantic, tools)
    return {"answer": ours.handler(event, context), "from": [module.__file__ for module in modules]}
"""
EVENT = {
    "messageVersion": "1.0",
    "agent": {"name": "a", "id": "I", "alias": "A", "version": "1"},
    "inputText": "",
    "sessionId": "s",
    "actionGroup": "information",
    "function": "get_working_hours",
    "parameters": [],
    "sessionAttributes": {},
    "promptSessionAttributes": {},
}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """What functions import, installed twice."""
    folders = [tmp_path_factory.mktemp("wheels") for _ in range(2)]
    for folder in folders:
        install_wheels(folder, arch=HERE, python=PYTHON)
    return folders


@pytest.fixture(scope="module")
def archives(wheels: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[Archive]:
    """The same group built twice, from wheels that were installed twice."""
    settings = load_settings()
    directory = load_deployment(settings.directory_file, settings.tenant).directory
    return [
        build("information", each, directory, tmp_path_factory.mktemp("archive"), arch=HERE, python=PYTHON)
        for each in wheels
    ]


def test_an_archive_has_the_same_bytes_every_time(archives: list[Archive]) -> None:
    first, second = archives
    assert first.path != second.path
    assert first.digest == second.digest


def test_an_archive_holds_what_a_function_needs_and_no_more(archives: list[Archive]) -> None:
    with zipfile.ZipFile(archives[0].path) as archive:
        infos = archive.infolist()
        directory = json.loads(archive.read("directory.json"))
    names = [info.filename for info in infos]
    assert names == sorted(names)
    assert {info.date_time for info in infos} == {(1980, 1, 1, 0, 0, 0)}
    assert {info.external_attr >> 16 for info in infos} == {0o100644, 0o100755}
    assert {"handler.py", "directory.json", "tools/__init__.py", "tools/lambda_handler.py"} <= set(names)
    assert {"pydantic", "pydantic_core", "httpx", "orjson", "pybreaker", "tzdata"} <= {n.split("/")[0] for n in names}
    # Neither what runs elsewhere, nor the service, nor what Python writes by itself.
    assert not [n for n in names if n.startswith(("tools/executors/", "agent/", "backend/", "botocore/", "bin/"))]
    assert not [n for n in names if n.endswith(("/RECORD", "/INSTALLER", "direct_url.json"))]
    # Byte code for this version, which is not compared with the time stamps that the archive has not.
    compiled = [n for n in names if n.endswith(".pyc")]
    assert f"__pycache__/handler.cpython-{PYTHON.replace('.', '')}.pyc" in compiled
    assert len(compiled) == len([n for n in names if n.endswith(".py")])
    with zipfile.ZipFile(archives[0].path) as archive:
        assert {archive.read(n)[4:8] for n in compiled} == {(0b01).to_bytes(4, "little")}  # PEP 552: hash, unchecked
    assert any(n.endswith(".dist-info/METADATA") for n in names)
    assert directory["locations"]
    assert archives[0].size_bytes < lambda_build.MAX_BYTES


def test_the_handler_imports_from_the_archive_alone(archives: list[Archive], tmp_path: Path) -> None:
    interpreter = interpreter_for(archives[0])
    assert interpreter is not None
    cold = measure(archives[0], interpreter, runs=2)
    assert 0 < cold.least_cpu_s <= cold.cpu_s
    assert {"pydantic", "tools"} <= {name for name, _ in cold.slowest}

    incomplete = tmp_path / "incomplete.zip"
    with zipfile.ZipFile(archives[0].path) as whole, zipfile.ZipFile(incomplete, "w") as part:
        for name in whole.namelist():
            if not name.startswith("httpx/"):
                part.writestr(name, whole.read(name))
    with pytest.raises(ImportFails, match="No module named 'httpx'"):
        measure(Archive("information", HERE, PYTHON, incomplete, {}), interpreter)


def test_an_archive_for_another_python_or_processor_is_not_measured(
    archives: list[Archive], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shim = tmp_path / "python3.99"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert interpreter_for(replace(archives[0], python="3.99")) is None
    other: Arch = "arm64" if HERE == "x86_64" else "x86_64"
    assert interpreter_for(replace(archives[0], arch=other)) is None


def test_the_unpacked_archive_runs_as_a_function(
    archives: list[Archive], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "us-east-1")
    with zipfile.ZipFile(archives[0].path) as archive:
        archive.extractall(tmp_path)
    (tmp_path / "probe.py").write_text(PROBE)

    with running([Function("information", tmp_path, "probe.handler")]) as service:
        answer = client(service.url).invoke(FunctionName="information", Payload=json.dumps(EVENT))
        told = json.loads(answer["Payload"].read())

    assert "FunctionError" not in answer, told
    body = json.loads(told["answer"]["response"]["functionResponse"]["responseBody"]["TEXT"]["body"])
    assert body["ok"] is True
    assert all(file.startswith(f"{tmp_path}/") for file in told["from"])


def test_a_budget_that_is_exceeded_is_said_with_what_is_largest(
    archives: list[Archive], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    cold = ColdStart(0.9, 0.8, 0.7, [("pydantic", 0.3), ("tools", 0.2)])
    assert lambda_build.troubles(archives[0], None) == []
    assert lambda_build.troubles(archives[0], cold) == [
        f"{archives[0].path} takes at least 0.70 s of CPU to import, of 0.6 allowed. "
        "Slowest: pydantic 0.30 s, tools 0.20 s"
    ]
    monkeypatch.setattr(os, "getloadavg", lambda: (999.0, 0.0, 0.0))
    assert lambda_build.troubles(archives[0], cold)[0].endswith("(load 999.0): build again when it is not")

    monkeypatch.setattr(lambda_build, "MAX_BYTES", 1_000_000)
    [too_large] = lambda_build.troubles(archives[0], None)
    assert "MB of 1 allowed. Largest: pydantic_core" in too_large


def test_the_command_prints_what_it_built_and_fails_on_a_budget(
    wheels: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def copied(folder: Path, *, arch: Arch, python: str) -> None:
        assert (arch, python) == (HERE, PYTHON)
        shutil.copytree(wheels[0], folder, dirs_exist_ok=True)

    monkeypatch.setattr(lambda_build, "install_wheels", copied)  # in seconds; the archives above were built from it
    cold = ColdStart(0.9, 0.8, 0.7, [])
    monkeypatch.setattr(lambda_build, "measure", lambda _archive, _interpreter: cold)
    assert lambda_build.run(("notes",), out=tmp_path, arch=HERE, python=PYTHON) == 1
    said = capsys.readouterr()
    path = tmp_path / f"notes-{HERE}.zip"
    assert said.out.startswith(f"{path}  {path.stat().st_size / 1e6:.2f} MB  sha256 ")
    assert "cold import 0.90 s, 0.80 s of CPU" in said.out
    assert said.err.startswith("Not fit to be deployed:\n")

    monkeypatch.setattr(lambda_build, "MAX_IMPORT_CPU_S", 0.7)
    assert lambda_build.run(("notes",), out=tmp_path, arch=HERE, python=PYTHON) == 0


def test_an_unknown_group_is_said_before_anything_is_built(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lambda_build.run(("other",), out=tmp_path, arch=HERE, python=PYTHON) == 1
    assert "There is no group 'other'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
