"""The archive of an action group, as it is deployed: the same bytes whenever and wherever it is built.

It holds `handler.py`, `directory.json` (the offices), the package `tools` without its executors, and what `tools`
imports of others, in the versions of `uv.lock`, as wheels for the function's processor. Beside the sources lies their
byte code, if there is a Python of the function's version here to compile it: a cold start takes half as long with it.
It is not checked against the sources, and is the same whenever the same release of Python compiles it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

from backend.lambdas.functions import CHECKOUT, group_folder
from tools.contract import Directory

Arch = Literal["arm64", "x86_64"]
MACHINES: Mapping[Arch, str] = {"arm64": "aarch64", "x86_64": "x86_64"}  # ours -> uv's and Python's word for it
IMPORTED = ("pydantic", "httpx", "orjson", "pybreaker", "tzdata")  # by `tools`, see the contract of its imports
NOT_SHIPPED = ("executors",)  # of `tools`
# Of a wheel's own records: who it is, for scanners of deployed functions, and under which terms.
KEPT_RECORDS = ("METADATA", "LICENSE", "COPYING", "NOTICE")
NOT_NEEDED = ("__pycache__", "tests", "test", "bin")
NOT_NEEDED_SUFFIXES = (".pyc", ".pyi", ".typed")
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that an archive can tell


class CannotBuild(Exception):
    """An archive cannot be built here; the message says why and what to do."""


@dataclass(frozen=True)
class Archive:
    """What was built."""

    group: str
    arch: Arch
    python: str
    path: Path
    sizes: Mapping[str, int]  # compressed bytes by top-level name

    @property
    def size_bytes(self) -> int:
        """Of the file."""
        return self.path.stat().st_size

    @property
    def digest(self) -> str:
        """SHA-256 of the file, in hex."""
        return sha256(self.path.read_bytes()).hexdigest()

    def largest(self, count: int = 5) -> list[tuple[str, int]]:
        """What takes the most of it."""
        return sorted(self.sizes.items(), key=lambda item: -item[1])[:count]


def build(group: str, wheels: Path, directory: Directory, out: Path, *, arch: Arch, python: str) -> Archive:
    """Write `{group}-{arch}.zip` into `out`. `wheels` is a folder that `install_wheels` filled.

    Raises:
        UnusableFunction: there is no such group.
    """
    contents = {
        "handler.py": (group_folder(group) / "handler.py").read_bytes(),
        "directory.json": json.dumps(directory.to_json(), sort_keys=True, ensure_ascii=False, indent=1).encode(),
        **dict(_files(CHECKOUT / "tools", "tools", leave_out=NOT_SHIPPED)),
        **dict(_files(wheels, "")),
    }
    contents |= _compiled(contents, python)
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{group}-{arch}.zip"
    draft = path.with_suffix(".zip.part")
    sizes: dict[str, int] = {}
    with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(contents):
            info = zipfile.ZipInfo(name, EPOCH)
            info.create_system = 3  # Unix, whose permissions follow
            info.external_attr = (0o100755 if name.endswith(".so") else 0o100644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, contents[name], compresslevel=9)
            top = name.split("/")[0]
            sizes[top] = sizes.get(top, 0) + info.compress_size
    draft.replace(path)
    return Archive(group, arch, python, path, sizes)


def interpreter(python: str) -> str | None:
    """A Python of this version (`3.11`) on this machine; None without one."""
    for found in (sys.executable, shutil.which(f"python{python}")):
        if found and _version(found) == python:
            return found
    return None


def _version(executable: str) -> str:
    """Its major and minor version; a program of that name may also be a switch that leads nowhere."""
    code = "import sys; print(f'{sys.version_info.major}.{sys.version_info.minor}')"
    return subprocess.run([executable, "-I", "-c", code], capture_output=True, text=True, check=False).stdout.strip()


def _compiled(contents: Mapping[str, bytes], python: str) -> dict[str, bytes]:
    """Byte code of all sources: name in the archive, content; nothing without a Python of that version."""
    found = interpreter(python)
    if found is None:
        return {}
    with tempfile.TemporaryDirectory(prefix="outcrop-lambda-") as scratch:
        folder = Path(scratch)
        for name, content in contents.items():
            if name.endswith(".py"):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(content)
        command = [
            found, "-m", "compileall", "-q", "-j", "1", "--invalidation-mode", "unchecked-hash",
            "-s", scratch, "-p", "/var/task", scratch,
        ]  # fmt: skip
        # A fixed seed: the order of constant sets is part of the code.
        environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": ""}
        done = subprocess.run(command, cwd=scratch, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CannotBuild(f"Byte code could not be made:\n{(done.stdout + done.stderr).strip()[-2000:]}")
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.pyc")}


def install_wheels(folder: Path, *, arch: Arch, python: str) -> None:
    """Put what `tools` imports into an empty folder, as `uv.lock` pins it, for a Linux on `arch`.

    Raises:
        CannotBuild: no checkout, no uv, or uv fails.
    """
    lock = CHECKOUT / "uv.lock"
    if not lock.exists():
        raise CannotBuild(f"There is no {lock}. Archives are built in a checkout, where the versions are pinned.")
    known, wanted = _packages(lock)
    with tempfile.TemporaryDirectory(prefix="outcrop-lambda-") as scratch:
        pinned = Path(scratch) / "pylock.toml"
        left_out = [option for name in sorted(known - wanted) for option in ("--no-emit-package", name)]
        _uv(
            "export",
            "--frozen",
            "--no-dev",
            "--no-emit-project",
            *left_out,
            "--format",
            "pylock.toml",
            "-o",
            str(pinned),
        )
        _uv(
            "pip", "install", "--target", str(folder), "--python-platform", f"{MACHINES[arch]}-manylinux2014",
            "--python-version", python, "--python", sys.executable, "--only-binary", ":all:",
            "--no-compile-bytecode", "--link-mode", "copy", "-r", str(pinned),
        )  # fmt: skip


def _packages(lock: Path) -> tuple[set[str], set[str]]:
    """All packages of the lock file, and those that IMPORTED needs. Markers are left to uv."""
    needs: dict[str, set[str]] = {}
    for package in tomllib.loads(lock.read_text("utf-8"))["package"]:
        needs.setdefault(package["name"], set()).update(each["name"] for each in package.get("dependencies", ()))
    wanted: set[str] = set()
    due = set(IMPORTED)
    while due:
        wanted |= due
        due = {each for name in due for each in needs[name]} - wanted
    return set(needs), wanted


def _uv(*arguments: str) -> None:
    """Run uv as the set-up does: no interpreter is downloaded, the system's certificate authorities are trusted."""
    command = [_find_uv(), "--quiet", *arguments]
    environment = {"UV_PYTHON_DOWNLOADS": "never", "UV_SYSTEM_CERTS": "true", "UV_NATIVE_TLS": "true", **os.environ}
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotBuild(f"uv could not get the pinned wheels:\n{done.stderr.strip()}")


def _find_uv() -> str:
    fetched = sorted((CHECKOUT / ".uv").glob("uv-*/uv"))
    found = str(fetched[-1]) if fetched else shutil.which("uv")
    if not found:
        raise CannotBuild("uv is missing. python3 scripts/bootstrap.py fetches it; any uv on PATH serves as well.")
    return found


def _files(folder: Path, prefix: str, leave_out: tuple[str, ...] = ()) -> Iterator[tuple[str, bytes]]:
    """Everything below a folder that a function needs: name in the archive, content."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and parts[0] not in leave_out and _is_needed(parts):
            yield "/".join((prefix, *parts) if prefix else parts), path.read_bytes()


def _is_needed(parts: tuple[str, ...]) -> bool:
    if any(part in NOT_NEEDED for part in parts) or parts[-1].endswith(NOT_NEEDED_SUFFIXES) or parts[-1] == ".lock":
        return False
    in_records = parts[0].endswith(".dist-info")
    return not in_records or parts[-1].upper().startswith(KEPT_RECORDS)
