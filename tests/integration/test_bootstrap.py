"""Set-up from a bare machine: which wheel, from where, checked how; and when the page is built again."""

import hashlib
import http.server
import importlib.util
import io
import json
import os
import platform
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


bootstrap = script("bootstrap")
frontend = script("frontend")


@pytest.mark.parametrize(
    ("system", "machine", "libc", "tags"),
    [
        ("Linux", "x86_64", "glibc", "manylinux_2_17_x86_64.manylinux2014_x86_64"),
        ("Linux", "aarch64", "glibc", "manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64"),
        ("Linux", "arm64", "glibc", "manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64"),
        ("Linux", "x86_64", "musl", "musllinux_1_1_x86_64"),
        ("Linux", "aarch64", "musl", "manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64"),
        ("Darwin", "x86_64", "", "macosx_10_12_x86_64"),
        ("Darwin", "arm64", "", "macosx_11_0_arm64"),
    ],
)
def test_wheel_for_a_platform(system: str, machine: str, libc: str, tags: str) -> None:
    name, sha256 = bootstrap.wheel_for(system, machine, libc)
    assert name == f"uv-{bootstrap.UV_VERSION}-py3-none-{tags}.whl"
    assert len(sha256) == 64


def test_no_wheel_for_a_platform() -> None:
    with pytest.raises(bootstrap.SetUpError, match="no pinned uv for Linux on riscv64"):
        bootstrap.wheel_for("Linux", "riscv64", "glibc")


@pytest.mark.parametrize(
    ("environment", "configuration", "expected"),
    [
        ({}, "", "https://pypi.org/simple"),
        ({}, "[global]\nindex-url = https://mirror/simple/\n", "https://mirror/simple/"),
        ({}, "[global]\nindex-url = https://a\n[install]\nindex-url = https://b\n", "https://b"),
        ({"PIP_INDEX_URL": "https://env"}, "[global]\nindex-url = https://a\n", "https://env"),
        ({"PIP_INDEX_URL": "https://env", "UV_INDEX_URL": "https://uv"}, "", "https://uv"),
        ({"UV_DEFAULT_INDEX": "name=https://named", "UV_INDEX_URL": "https://uv"}, "", "https://named"),
        ({"UV_DEFAULT_INDEX": "https://plain/?a=b"}, "", "https://plain/?a=b"),
    ],
)
def test_the_index_this_machine_uses(
    tmp_path: Path, environment: dict[str, str], configuration: str, expected: str
) -> None:
    (tmp_path / "pip.conf").write_text(configuration)
    assert bootstrap.index_url(environment, [tmp_path / "absent", tmp_path / "pip.conf"]) == expected


def a_wheel() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(f"uv-{bootstrap.UV_VERSION}.data/scripts/uv", "#!/bin/sh\necho uv 0.13.9\n")
    return content.getvalue()


class Index(http.server.BaseHTTPRequestHandler):
    """A package index that holds one wheel and asks for a name and a password."""

    as_json = False
    wheel = b""
    file_name = ""

    def do_GET(self) -> None:
        if self.headers["Authorization"] != "Basic bWU6cEBzcw==":
            self.send_error(401)
        elif self.path == "/simple/uv/":
            link = f"../../files/{self.file_name}#sha256=00"
            page = json.dumps({"files": [{"url": link}]}) if self.as_json else f'<a href="{link}">uv</a>'
            self.answer(page.encode())
        else:
            self.answer(self.wheel)

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: it would fill the output of the tests."""


@pytest.fixture(params=[False, True], ids=["html", "json"])
def index(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of an index on loopback, for which this machine is set up, with the pins of `a_wheel()`."""
    wheel = a_wheel()
    key = (platform.system(), platform.machine(), bootstrap.c_library())
    pins = {key: (bootstrap.UV_WHEELS[key][0], hashlib.sha256(wheel).hexdigest())}
    monkeypatch.setattr(bootstrap, "UV_WHEELS", pins)
    served = {"as_json": request.param, "wheel": wheel, "file_name": bootstrap.wheel_for(*key)[0]}
    handler = type("Handler", (Index,), served)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://me:p%40ss@127.0.0.1:{server.server_port}/simple"
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield url
    server.shutdown()
    thread.join()
    server.server_close()


def test_uv_is_fetched_once_and_found_again(
    index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a mirror with a password, which is not printed."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert bootstrap.find_uv(tmp_path) is None
    fetched = bootstrap.fetch_uv(tmp_path)
    assert bootstrap.find_uv(tmp_path) == fetched
    assert bootstrap.uv_version(fetched) == (0, 13)
    said = capsys.readouterr().err
    assert "127.0.0.1" in said
    assert "p%40ss" not in said


def test_another_file_than_the_pinned_one_is_refused(
    index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index serves other bytes under the right name: nothing is written, nothing is run."""
    key = (platform.system(), platform.machine(), bootstrap.c_library())
    monkeypatch.setitem(bootstrap.UV_WHEELS, key, (bootstrap.UV_WHEELS[key][0], "0" * 64))
    with pytest.raises(bootstrap.SetUpError, match=r"expected 0000.*not run"):
        bootstrap.fetch_uv(tmp_path)
    assert list(tmp_path.rglob("uv")) == []


def test_an_index_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(bootstrap.SetUpError, match=r"cannot read http://127\.0\.0\.1:1/uv/.*Check the network"):
        bootstrap.link_to("uv.whl", "http://me:secret@127.0.0.1:1")


def test_uv_on_path_counts_when_recent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uv = tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    monkeypatch.setenv("PATH", f"{uv.parent}:/usr/bin:/bin")
    for version, counts in (("0.4.30", False), ("nonsense", False), ("0.9.0", True), ("1.2.3", True)):
        uv.write_text(f"#!/bin/sh\necho 'uv {version}'\n")
        uv.chmod(0o755)
        assert bootstrap.find_uv(tmp_path) == (str(uv) if counts else None), version


def test_an_old_python_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no newer one on PATH; where there is one, the script goes on under it."""
    monkeypatch.setattr(sys, "version_info", (3, 9, 6))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(bootstrap.SetUpError, match=r"needs 3\.11 or later.*make PYTHON="):
        bootstrap.use_new_enough_python()


def test_the_scripts_can_be_read_by_an_old_python() -> None:
    """Python 3.8 must get as far as saying that it is too old."""
    import ast

    for path in SCRIPTS.glob("*.py"):
        ast.parse(path.read_text(), feature_version=(3, 8))


def test_help_lists_every_command() -> None:
    """`make help` names each target of the Makefile, and needs nothing but make and awk."""
    makefile = (SCRIPTS.parent / "Makefile").read_text()
    phony = next(line for line in makefile.splitlines() if line.startswith(".PHONY:")).split()[1:]
    done = subprocess.run(["make", "help"], cwd=SCRIPTS.parent, capture_output=True, text=True, check=True)
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("  make ")] == phony


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with a small page, and an npm that notes its calls."""
    source = tmp_path / "frontend"
    (source / "src").mkdir(parents=True)
    (source / "src" / "app.ts").write_text("one")
    (source / "package.json").write_text("{}")
    (source / "package-lock.json").write_text("{}")
    (tmp_path / "bin").mkdir()
    for name, code in {
        "node": "echo v20.19.0",
        "npm": 'echo "$@" >> ../calls; [ "$1" = ci ] && mkdir -p node_modules; '
        "mkdir -p ../backend/static; echo page > ../backend/static/index.html",
    }.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{code}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(frontend, "CHECKOUT", tmp_path)
    monkeypatch.setattr(frontend, "FRONTEND", source)
    monkeypatch.setattr(frontend, "STATIC", tmp_path / "backend" / "static")
    monkeypatch.setattr(frontend, "BUILT_FROM", tmp_path / "backend" / "static" / ".built-from")
    monkeypatch.setattr(frontend, "INSTALLED_FROM", source / "node_modules" / ".installed-from")
    return tmp_path


def calls(page: Path) -> list[str]:
    return [line.split()[0 if line.startswith("ci") else -1] for line in (page / "calls").read_text().splitlines()]


def test_the_page_is_built_when_its_sources_changed_and_not_otherwise(page: Path) -> None:
    frontend.build()
    frontend.build()
    assert calls(page) == ["ci", "build"]
    (page / "frontend" / "tests").mkdir()
    (page / "frontend" / "tests" / "app.test.ts").write_text("a test is not part of the page")
    frontend.build()
    assert calls(page) == ["ci", "build"]
    (page / "frontend" / "src" / "app.ts").write_text("two")
    frontend.build()
    assert calls(page) == ["ci", "build", "build"]
    (page / "frontend" / "package-lock.json").write_text('{"x": 1}')
    frontend.build()
    assert calls(page) == ["ci", "build", "build", "ci", "build"]


def test_a_failed_build_is_said_and_tried_again(page: Path) -> None:
    frontend.build()
    (page / "bin" / "npm").write_text("#!/bin/sh\nexit 3\n")
    (page / "frontend" / "src" / "app.ts").write_text("two")
    for _ in range(2):
        with pytest.raises(frontend.PageError, match="`npm run build` ended with code 3"):
            frontend.build()


def test_a_checkout_without_a_page(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (page / "frontend" / "package.json").unlink()
    with pytest.raises(SystemExit, match=r"package\.json is missing"):
        frontend.main(["build"])


def test_an_old_node_is_passed_over(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Node 18 of Debian 12 cannot build the page; the packaged one is taken."""
    (page / "bin" / "node").write_text("#!/bin/sh\necho v18.20.4\n")
    monkeypatch.setattr(frontend, "packaged_node", lambda: page / "packaged")
    command, environment = frontend.node()
    assert command[0] == str(page / "packaged" / "bin" / "node")
    assert environment["PATH"].startswith(str(page / "packaged" / "bin"))
