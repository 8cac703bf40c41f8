"""Which knowledge bases there are. The only place where a tenant becomes a base's number."""

from __future__ import annotations

import re
import secrets
import string
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from knowledge_base.errors import InvalidRequest
from knowledge_base.stores.connections import Pool, reading

ID_LETTERS = string.ascii_uppercase + string.digits
ID_LENGTH = 10
NAME = re.compile(r"(?:[0-9a-zA-Z][_-]?){1,100}")  # as Bedrock has it
COLUMNS = "number, tenant, id, name, created_at"


@dataclass(frozen=True, slots=True)
class BaseRow:
    """A knowledge base of one tenant. `number` is what all its rows carry, `id` (10 of A-Z0-9) what others call it."""

    number: int
    tenant: str
    id: str
    name: str
    created_at: datetime


async def find_base(pool: Pool, tenant: str, name_or_id: str) -> BaseRow | None:
    """The base of this tenant, None for any other's."""
    # A name that looks like an id is never given, so at most one row fits.
    sql = f"SELECT {COLUMNS} FROM kb_bases WHERE tenant = $1 AND (name = $2 OR id = $2)"
    async with reading(pool) as connection:
        row = await connection.fetchrow(sql, tenant, name_or_id)
    return BaseRow(**row) if row else None


async def create_base(pool: Pool, tenant: str, name: str) -> BaseRow:
    """The base of that name, made if there is none: two that ask at once get the same. `InvalidRequest`: the name."""
    if not NAME.fullmatch(name):
        raise InvalidRequest("name", "must be 1 to 100 letters and digits, with single - or _ after any of them")
    if re.fullmatch(f"[A-Z0-9]{{{ID_LENGTH}}}", name):
        raise InvalidRequest("name", "looks like the id of a knowledge base; use a small letter, or another length")
    sql = f"""
        INSERT INTO kb_bases (tenant, id, name) VALUES ($1, $2, $3)
        ON CONFLICT (tenant, name) DO UPDATE SET name = excluded.name RETURNING {COLUMNS}
    """
    async with reading(pool) as connection:
        while True:
            chosen = "".join(secrets.choice(ID_LETTERS) for _ in range(ID_LENGTH))
            try:
                row = await connection.fetchrow(sql, tenant, chosen, name)
            except asyncpg.UniqueViolationError:  # the id is another's: one in 10^15
                continue
            assert row is not None
            return BaseRow(**row)


async def list_bases(pool: Pool, tenant: str) -> list[BaseRow]:
    """The bases of this tenant, by name."""
    async with reading(pool) as connection:
        rows = await connection.fetch(f"SELECT {COLUMNS} FROM kb_bases WHERE tenant = $1 ORDER BY name", tenant)
    return [BaseRow(**row) for row in rows]
