"""Office files as the zip archives they are, looked through before a library opens them."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from dataclasses import dataclass, field

from knowledge_base.errors import Refused
from knowledge_base.parsing.limits import MB, Limits

MOST_MEMBERS = 20_000
MOST_RATIO = 200
SMALL = 16 * MB  # what unpacks to less than this may be packed as well as it likes
BLOCK = MB
OVERLAP = 256
_DECLARATION = re.compile(rb"<!(?:DOCTYPE|ENTITY)|<\x00?!\x00?(?:D\x00?O\x00?C\x00?T\x00?Y\x00?P\x00?E|E\x00?N\x00?T)")
_NO_VALUE = re.compile(rb"(?:</f>|<f\b[^<>]{0,200}/>)\s*(?:<v\s*/>|<v>\s*</v>)?\s*</c>")
_MERGED = re.compile(rb'<mergeCell ref="([A-Z]{1,3}[0-9]{1,7}:[A-Z]{1,3}[0-9]{1,7})"')
MOST_MERGED = 100_000


@dataclass(slots=True)
class Package:
    """What was found on the way through."""

    formulas_without_value: int = 0
    merged: dict[str, list[str]] = field(default_factory=dict)  # by member: ranges of cells


def look_through(name: str, content: bytes, limits: Limits) -> Package:
    """Every member of XML is unpacked once, counted and searched; `Refused` ("bomb", "encrypted", "corrupt")."""
    package = Package()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            _check_sizes(name, members, len(content), limits)
            for member in members:
                if member.flag_bits & 1:
                    raise Refused("encrypted", f"{name}: is protected by a password; save it without one")
                if member.filename.endswith((".xml", ".rels")):
                    _look_into(name, archive, member, package)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, LookupError) as error:
        what = type(error).__name__
        raise Refused("corrupt", f"{name}: is no sound archive ({what}); get it anew, or save it anew") from None
    return package


def _check_sizes(name: str, members: list[zipfile.ZipInfo], packed: int, limits: Limits) -> None:
    expanded = sum(member.file_size for member in members)
    if len(members) > MOST_MEMBERS:
        raise Refused("bomb", f"{name}: holds {len(members)} parts; leave it out")
    if expanded > limits.max_expanded_bytes or (expanded > SMALL and expanded > packed * MOST_RATIO):
        raise Refused("bomb", f"{name}: unpacks {packed:,} bytes to {expanded:,}; split it, or leave it out")


def _look_into(name: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo, package: Package) -> None:
    """No more is unpacked than the member's declared size, which is how zipfile reads."""
    sheet = member.filename.startswith("xl/worksheets/")
    before = b""
    with archive.open(member) as opened:
        while block := opened.read(BLOCK):
            held = before + block
            if _DECLARATION.search(held):
                raise Refused("bomb", f"{name}: declares entities, which no Office file does; leave it out")
            if sheet:
                skipped = len(before)
                package.formulas_without_value += sum(m.end() > skipped for m in _NO_VALUE.finditer(held))
                ranges = package.merged.setdefault(member.filename, [])
                if len(ranges) < MOST_MERGED:
                    ranges += [m[1].decode() for m in _MERGED.finditer(held) if m.end() > skipped]
            before = held[-OVERLAP:]
