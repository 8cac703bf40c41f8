"""The servers behind the executors, for whichever tests ask for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.contract.shelf_rows import ROWS, Bench, Services
from tests.doubles import shelf


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Started when they are needed, stopped at the end; the environment is theirs as long."""
    folder = tmp_path_factory.mktemp("shelf")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(shelf.STORE, str(folder))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "of-no-account")
        running = Services(folder)
        yield running
        running.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(request: pytest.FixtureRequest, services: Services) -> AsyncIterator[Bench]:
    """The row that the parameter names."""
    row = ROWS[request.param]
    async with row.open(services) as make:
        yield Bench(row, make)
