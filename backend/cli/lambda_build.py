"""`outcrop lambda build`: an archive for each group and processor, measured and held to its budgets."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from backend.cli.serve import complain
from backend.identity.directory import load_deployment
from backend.lambdas.archive import Arch, Archive, CannotBuild, build, install_wheels
from backend.lambdas.cold_start import ColdStart, ImportFails, interpreter_for, measure
from backend.lambdas.functions import UnusableFunction, group_folder, groups
from backend.settings import SettingsError, load_settings

MAX_BYTES = 8_000_000
MAX_IMPORT_CPU_S = 0.6


def run(named: tuple[str, ...], *, out: Path, arch: Literal["arm64", "x86_64", "both"], python: str) -> int:
    """Build, measure, print. Returns the exit code: 1 when an archive cannot be built or exceeds a budget."""
    arches: tuple[Arch, ...] = ("arm64", "x86_64") if arch == "both" else (arch,)
    wanted = named or tuple(groups())
    if not wanted:
        return complain("There are no groups here. Archives are built in a checkout.")
    try:
        for group in wanted:
            group_folder(group)
        settings = load_settings()
        directory = load_deployment(settings.directory_file, settings.tenant).directory
        wrong: list[str] = []
        for each in arches:
            with TemporaryDirectory(prefix="outcrop-lambda-") as wheels:
                install_wheels(Path(wheels), arch=each, python=python)
                for group in wanted:
                    try:
                        archive = build(group, Path(wheels), directory, out, arch=each, python=python)
                    except OSError as error:
                        raise CannotBuild(f"{out} cannot be written: {error}. Choose another with --out.") from error
                    wrong += _report(archive)
    except (CannotBuild, UnusableFunction) as error:
        return complain(str(error))
    except SettingsError as error:
        return complain("The configuration cannot be used:", *str(error).splitlines())
    return complain("Not fit to be deployed:", *wrong) if wrong else 0


def troubles(archive: Archive, cold: ColdStart | None) -> list[str]:
    """Which budgets it exceeds, each with what takes the most."""
    return _too_large(archive) + (_too_slow(archive, cold) if cold else [])


def _report(archive: Archive) -> list[str]:
    """Measure it and print what was built; what is wrong with it."""
    interpreter = interpreter_for(archive)
    try:
        cold = measure(archive, interpreter) if interpreter else None
    except ImportFails as error:
        return [f"{archive.path}: its handler cannot be imported from it alone: {error}"]
    if cold:
        took = f"cold import {cold.wall_s:.2f} s, {cold.cpu_s:.2f} s of CPU"
    else:
        took = f"cold import not measured (needs Python {archive.python} on {archive.arch})"
    print(f"{archive.path}  {archive.size_bytes / 1e6:.2f} MB  sha256 {archive.digest}\n  {took}", flush=True)
    return troubles(archive, cold)


def _too_large(archive: Archive) -> list[str]:
    if archive.size_bytes <= MAX_BYTES:
        return []
    largest = ", ".join(f"{name} {size / 1e6:.2f} MB" for name, size in archive.largest())
    return [f"{archive.path} has {archive.size_bytes / 1e6:.2f} MB of {MAX_BYTES / 1e6:g} allowed. Largest: {largest}"]


def _too_slow(archive: Archive, cold: ColdStart) -> list[str]:
    if cold.least_cpu_s <= MAX_IMPORT_CPU_S:
        return []
    slowest = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in cold.slowest)
    return [
        f"{archive.path} takes at least {cold.least_cpu_s:.2f} s of CPU to import, of {MAX_IMPORT_CPU_S:g} allowed. "
        f"Slowest: {slowest}{_excuse()}"
    ]


def _excuse() -> str:
    """Processors that are shared lengthen CPU time too."""
    load = os.getloadavg()[0]
    return (
        f". This machine is busy (load {load:.1f}): build again when it is not" if load > (os.cpu_count() or 1) else ""
    )
