#!/usr/bin/env python3
"""Everything the project needs, from nothing but Python 3.11 and its standard library; then run a command in it.

    python3 scripts/bootstrap.py                     fetch uv if need be, install what uv.lock names into .venv
    python3 scripts/bootstrap.py outcrop serve       … and run that command there

uv comes as a wheel from the package index (UV_DEFAULT_INDEX, UV_INDEX_URL, PIP_INDEX_URL or pip's configuration name
a mirror; else PyPI), checked against the sha256 below, into .uv/. A recent enough uv on PATH is used as it is. Neither
pip nor venv is needed. The macOS wheels are resolved by the same rule and are untried.
"""

# No syntax here that Python 3.7 cannot read, so that an old one can say that it is too old.
from __future__ import annotations

import base64
import configparser
import hashlib
import html.parser
import io
import json
import os
import platform
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NoReturn

CHECKOUT = Path(__file__).resolve().parents[1]
OLDEST_PYTHON = (3, 11)
NEWER_PYTHONS = ("python3.14", "python3.13", "python3.12", "python3.11")
PYPI = "https://pypi.org/simple"
OLDEST_UV = (0, 9)
UV_VERSION = "0.13.9"
# By system, machine and C library: the wheel's platform tags and its sha256.
UV_WHEELS = {
    ("Linux", "x86_64", "glibc"): (
        "manylinux_2_17_x86_64.manylinux2014_x86_64",
        "d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19",
    ),
    ("Linux", "x86_64", "musl"): (
        "musllinux_1_1_x86_64",
        "2c45530751517d6c3bbc69a19473f6effe47cce047bede01ffd8af7ea7b36b25",
    ),
    ("Linux", "aarch64", "glibc"): (
        "manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64",
        "5435c5ce14a56431208ca0996416d310f1598e8c2c8ba707688985a16bb82dbe",
    ),
    ("Linux", "aarch64", "musl"): (
        "manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64",
        "5435c5ce14a56431208ca0996416d310f1598e8c2c8ba707688985a16bb82dbe",
    ),
    ("Darwin", "x86_64", ""): (
        "macosx_10_12_x86_64",
        "c16ed11e013557536b3e60065f1b912f6407bd6518e041b961e23ef9e6b4fbf5",
    ),
    ("Darwin", "arm64", ""): (
        "macosx_11_0_arm64",
        "66c512266d633bef48384a1f53003f41f2a8e7b36fe6e7fbfd3e0fd52d96fa63",
    ),
}


class SetUpError(Exception):
    """The set-up cannot go on; the message says why and what to do."""


def main(command: list[str]) -> None:
    """Prepare, then become `command` if there is one."""
    try:
        use_new_enough_python()
        uv = find_uv(CHECKOUT) or fetch_uv(CHECKOUT)
        sync(uv)
    except SetUpError as error:
        sys.exit("Set-up failed: " + str(error))
    if command:
        run(command)


def use_new_enough_python() -> None:
    """Go on under a newer Python on PATH when this one is too old."""
    if sys.version_info >= OLDEST_PYTHON:
        return
    for name in NEWER_PYTHONS:
        newer = shutil.which(name)
        if newer:
            os.execv(newer, [newer, *sys.argv])  # noqa: S606 - the same command line, our own
    raise SetUpError(
        f"this is Python {platform.python_version()}, and Outcrop needs 3.11 or later. "
        "Install one (apt install python3 on Debian 12 or later, "
        "brew install python on macOS), or name it: make PYTHON=/path/to/python3.12"
    )


def find_uv(checkout: Path) -> str | None:
    """The uv fetched earlier, or one on PATH that is recent enough; None if there is neither."""
    fetched = checkout / ".uv" / ("uv-" + UV_VERSION) / "uv"
    if fetched.exists():
        return str(fetched)
    on_path = shutil.which("uv")
    if on_path and uv_version(on_path) >= OLDEST_UV:
        return on_path
    return None


def uv_version(binary: str) -> tuple[int, ...]:
    """Version as numbers, (0,) when it does not say or does not run."""
    try:
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
    except OSError:
        return (0,)
    match = re.match(r"uv (\d+)\.(\d+)", said)
    return (int(match[1]), int(match[2])) if match else (0,)


def fetch_uv(checkout: Path) -> str:
    """Download the pinned wheel, check it, and unpack its one binary."""
    name, sha256 = wheel_for(platform.system(), platform.machine(), c_library())
    index = index_url(os.environ, pip_configurations())
    print(f"Fetching uv {UV_VERSION} from {without_credentials(index)} …", file=sys.stderr, flush=True)
    wheel = download(link_to(name, index))
    check(wheel, sha256, name)
    return str(unpack(wheel, checkout / ".uv"))


def wheel_for(system: str, machine: str, libc: str) -> tuple[str, str]:
    """File name and sha256 of uv's wheel for a platform as Python's `platform` names it."""
    machine = {"arm64": "aarch64", "amd64": "x86_64"}.get(machine.lower(), machine) if system == "Linux" else machine
    try:
        tags, sha256 = UV_WHEELS[(system, machine, libc)]
    except KeyError:
        raise SetUpError(
            "there is no pinned uv for {} on {}. Install uv {} or later yourself and put it on PATH.".format(
                system, machine, ".".join(map(str, OLDEST_UV))
            )
        ) from None
    return f"uv-{UV_VERSION}-py3-none-{tags}.whl", sha256


def c_library() -> str:
    """`glibc` or `musl` on Linux, empty elsewhere."""
    if platform.system() != "Linux":
        return ""
    return "glibc" if platform.libc_ver()[0] == "glibc" else "musl"


def index_url(environment: Mapping[str, str], configurations: Iterable[Path]) -> str:
    """The package index that this machine is set up to use."""
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        if environment.get(name):
            return re.sub(r"^[\w-]+=(?=\w+://)", "", environment[name])  # uv allows NAME=URL
    for path in configurations:
        parser = configparser.RawConfigParser()
        try:
            parser.read(str(path))
        except configparser.Error as error:
            raise SetUpError(f"cannot read pip's configuration {path}: {error}") from error
        for section in ("install", "global"):
            if parser.has_option(section, "index-url"):
                return parser.get(section, "index-url").strip()
    return PYPI


def pip_configurations() -> list[Path]:
    """Where pip looks, the strongest first."""
    home = Path.home()
    named = [Path(os.environ["PIP_CONFIG_FILE"])] if os.environ.get("PIP_CONFIG_FILE") else []
    config_home = Path(os.environ.get("XDG_CONFIG_HOME", str(home / ".config")))
    user = [home / "Library/Application Support/pip/pip.conf", config_home / "pip/pip.conf", home / ".pip/pip.conf"]
    return named + user + [Path("/Library/Application Support/pip/pip.conf"), Path("/etc/pip.conf")]


class Links(html.parser.HTMLParser):
    """Every link of a page of the simple index."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the target of an `a`."""
        if tag == "a":
            self.found.extend(value for key, value in attrs if key == "href" and value)


def link_to(name: str, index: str) -> str:
    """URL of the file `name` of the project uv in a simple index (HTML or JSON)."""
    page_url = index.rstrip("/") + "/uv/"
    page = download(page_url, accept="application/vnd.pypi.simple.v1+json, text/html;q=0.5").decode()
    if page.lstrip().startswith("{"):
        links = [str(file["url"]) for file in json.loads(page)["files"]]
    else:
        parser = Links()
        parser.feed(page)
        links = parser.found
    for link in links:
        url = urllib.parse.urljoin(page_url, link).split("#", 1)[0]
        if urllib.parse.unquote(url.rsplit("/", 1)[-1]) == name:
            return url
    raise SetUpError(f"{without_credentials(index)} has no {name}. Install uv yourself and put it on PATH.")


def download(url: str, accept: str = "*/*") -> bytes:
    """The bytes at `url`; a name and password in it become a header."""
    parts = urllib.parse.urlsplit(url)
    request = urllib.request.Request(without_credentials(url), headers={"Accept": accept, "User-Agent": "outcrop"})
    if parts.username:
        pair = urllib.parse.unquote(parts.username) + ":" + urllib.parse.unquote(parts.password or "")
        request.add_header("Authorization", "Basic " + base64.b64encode(pair.encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=120, context=certificates()) as answer:
            content: bytes = answer.read()
            return content
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        fix = "Check the network and the proxy (HTTPS_PROXY), or install uv yourself and put it on PATH."
        if isinstance(reason, ssl.SSLCertVerificationError):
            fix = "Install the system's certificates (apt-get install ca-certificates), or set SSL_CERT_FILE."
        raise SetUpError(f"cannot read {without_credentials(url)}: {reason}. {fix}") from error


def without_credentials(url: str) -> str:
    """The URL as it may be printed."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rsplit("@", 1)[-1]))


def certificates() -> ssl.SSLContext:
    """The system's authorities, or those that pip is told to use."""
    named = os.environ.get("PIP_CERT") or os.environ.get("REQUESTS_CA_BUNDLE")
    context = ssl.create_default_context(cafile=named if named and os.path.exists(named) else None)
    system = Path("/etc/ssl/cert.pem")  # macOS has it, and a Python from python.org does not look there
    if platform.system() == "Darwin" and system.exists():
        context.load_verify_locations(str(system))
    return context


def has_certificates() -> bool:
    """Whether this system has authorities of its own, among them perhaps a company's."""
    paths = ssl.get_default_verify_paths()
    return platform.system() == "Darwin" or bool(paths.cafile or (paths.capath and os.listdir(paths.capath)))


def check(content: bytes, sha256: str, name: str) -> None:
    """Refuse anything but the pinned file."""
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise SetUpError(
            f"{name} has sha256 {found}, expected {sha256}. "
            "It was not run; the index serves another file than the one pinned here."
        )


def unpack(wheel: bytes, folder: Path) -> Path:
    """Put the wheel's `uv` in place, whole or not at all; returns its path."""
    home = folder / ("uv-" + UV_VERSION)
    home.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        content = archive.read(f"uv-{UV_VERSION}.data/scripts/uv")
    handle, draft = tempfile.mkstemp(dir=str(home))
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    os.chmod(draft, 0o755)  # noqa: S103 - a program, for whoever may enter the checkout
    os.replace(draft, str(home / "uv"))
    return home / "uv"


def sync(uv: str) -> None:
    """Install exactly what uv.lock names into .venv."""
    home = CHECKOUT / ".venv"
    if not home.exists():
        print("Installing the locked dependencies into .venv …", file=sys.stderr, flush=True)
    lock = hashlib.sha256((CHECKOUT / "uv.lock").read_bytes()).hexdigest()
    compiled_from = home / ".compiled-from"
    if not sys.dont_write_bytecode or (compiled_from.exists() and compiled_from.read_text() == lock):
        run_uv(uv, [], home)
        return
    # Where Python may not cache what it compiles (PYTHONDONTWRITEBYTECODE), every start would take seconds longer.
    run_uv(uv, ["--compile-bytecode"], home)
    compiled_from.write_text(lock)


def run_uv(uv: str, arguments: list[str], home: Path) -> None:
    """`uv sync` from the lock file into the environment `home`."""
    command = [uv, "sync", "--frozen", "--quiet", *arguments]
    if not home.exists():
        command += ["--python", sys.executable]
    # No interpreter is downloaded: the one that runs this is good enough, and machines behind mirrors have no other.
    environment = dict(os.environ, UV_PROJECT_ENVIRONMENT=str(home))
    environment.setdefault("UV_PYTHON_DOWNLOADS", "never")
    environment.pop("VIRTUAL_ENV", None)
    if has_certificates():  # else uv's own list serves; both names, for older and newer uv
        environment.setdefault("UV_SYSTEM_CERTS", "true")
        environment.setdefault("UV_NATIVE_TLS", "true")
    if subprocess.run(command, cwd=str(CHECKOUT), env=environment, check=False).returncode:
        raise SetUpError("uv could not install the dependencies; its message is above.")


def run(command: list[str]) -> NoReturn:
    """Become `command`, with the environment's programs first on PATH."""
    programs = CHECKOUT / ".venv" / "bin"
    os.environ["PATH"] = str(programs) + os.pathsep + os.environ.get("PATH", os.defpath)
    os.environ["VIRTUAL_ENV"] = str(CHECKOUT / ".venv")
    try:
        os.execvp(command[0], command)  # noqa: S606 - what the person asked for
    except OSError as error:
        sys.exit(f"Cannot run {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
