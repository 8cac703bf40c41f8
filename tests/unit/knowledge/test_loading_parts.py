"""Budget, register, orders and environment: the parts of a run that need no store."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from backend.knowledge import environment
from backend.settings import load_settings
from knowledge_base.documents import Found
from knowledge_base.errors import InvalidRequest, Refused, TooManyDeletions
from knowledge_base.loading.budget import Budget
from knowledge_base.loading.command import Request
from knowledge_base.loading.environment import Environment, read_environment
from knowledge_base.loading.orders import Order, SourcePolicy, read_order
from knowledge_base.loading.register import Register
from knowledge_base.stores.base import Known


async def test_room_is_given_in_turn() -> None:
    """A small one does not overtake a large one, and what is larger than all there is gets in alone."""
    budget, entered = Budget(10), []

    async def enter(size: int) -> None:
        await budget.take(size)
        entered.append(size)

    async with asyncio.TaskGroup() as tasks:
        for size in (6, 7, 1, 50):
            tasks.create_task(enter(size))
            await asyncio.sleep(0)
        assert entered == [6]
        budget.give_back(6)
        await asyncio.sleep(0)
        assert entered == [6, 7, 1]
        budget.give_back(7)
        await asyncio.sleep(0)
        assert entered == [6, 7, 1]
        budget.give_back(1)
    assert entered == [6, 7, 1, 50]


async def test_whoever_gives_up_waiting_takes_no_room() -> None:
    """And keeps nobody waiting."""
    budget = Budget(10)
    await budget.take(10)
    waiting = asyncio.create_task(budget.take(5))
    behind = asyncio.create_task(budget.take(10))
    await asyncio.sleep(0)
    waiting.cancel()
    budget.give_back(10)
    await asyncio.wait_for(behind, 1)


def register(*doc_ids: str, source: str = "s") -> Register:
    made = Register("s")
    for doc_id in doc_ids:
        made._add(Known(doc_id, source, "stamp", "hash", 1, "live", f"uri:{doc_id}"))
    return made


def found(doc_id: str) -> Found:
    return Found(doc_id, f"uri:{doc_id}", doc_id, None, "")


@pytest.mark.parametrize(
    ("stored", "met", "percent", "listed", "gone"),
    [
        (10, 10, 30, 10, 0),
        (10, 7, 30, 7, 3),
        (10, 7, 0, 7, 3),  # as few may always go
        (10, 6, 30, 6, None),
        (10, 6, 40, 6, 4),
        (3, 1, 30, 1, 2),
        (2, 0, 30, 0, None),  # a source that lists nothing at all is not believed
        (2, 0, 30, 5, None),  # all of them: perhaps it is another folder
        (3, 0, 99, 5, None),
        (10, 6, float("nan"), 6, None),
        (2, 0, 100, 5, 2),
        (10, 0, 100, 0, 10),
        (0, 0, 30, 0, 0),
    ],
)
def test_how_much_may_go(stored: int, met: int, percent: float, listed: int, gone: int | None) -> None:
    """A few always, a share of the rest, and everything only when that was said."""
    made = register(*map(str, range(stored)))
    for n in range(met):
        made.listed(found(str(n)))
        made.claim(str(n), f"uri:{n}")
    if gone is not None:
        assert len(made.gone(percent, listed=listed)) == gone
    else:
        with pytest.raises(TooManyDeletions, match="--allow-delete-percent 100"):
            made.gone(percent, listed=listed)


def test_an_id_belongs_to_whoever_comes_first() -> None:
    """In a run, and among sources; the refusal names both."""
    made = register("theirs", source="other")
    made.claim("a", "uri:1")
    made.claim("a", "uri:1")
    with pytest.raises(Refused, match="'a' is uri:1 already"):
        made.claim("a", "uri:2")
    with pytest.raises(Refused, match="document of other already"):
        made.claim("theirs", "uri:3")


def test_what_is_refused_is_not_gone() -> None:
    """Neither a stored document, by its address, nor one that is not stored yet."""
    made = register("named-inside")
    assert made.spare(Found("path.md", "uri:named-inside", "path.md", None, ""))
    assert not made.spare(found("new.md"))
    assert made.gone(0, listed=2) == []


@pytest.mark.parametrize(
    ("order", "field"),
    [
        ({"kind": "folder", "target": ("/etc",)}, "source.kind"),
        ({"kind": "urls"}, "source.urls"),
        ({"kind": "urls", "target": ("https://a.example/",) * 1001}, "source.urls"),
        ({"kind": "s3"}, "source.url"),
        ({"kind": "urls", "target": ("https://a.example/",), "prune": True}, "prune"),
        ({"kind": "uploads", "prune": True}, "prune"),
        ({"kind": "content", "allow_delete_percent": 101.0}, "allow_delete_percent"),
    ],
)
def test_an_order_that_cannot_be_is_refused(order: dict[str, object], field: str) -> None:
    """By the field that is wrong; there is none for a folder of this machine."""
    with pytest.raises(InvalidRequest) as refused:
        Order(**order)  # type: ignore[arg-type]
    assert refused.value.field == field


def test_an_order_survives_being_stored() -> None:
    """As JSON."""
    order = Order("s3", ("s3://bucket/x",), prune=True, allow_delete_percent=50.0)
    assert read_order(order.as_json()) == order
    with pytest.raises(InvalidRequest, match="s3://bucket/folder"):
        SourcePolicy(1).source(Order("s3", ("file:///etc",)))
    with pytest.raises(InvalidRequest, match="KB_CONTENT"):
        SourcePolicy(1).source(Order("content"))


def test_the_environment_means_the_same_to_service_and_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys, defaults and what is made of them."""
    monkeypatch.chdir("/")
    given = {"DATABASE_URL": "postgresql://u@h/d", "KB_CHUNK_CHARS": "700", "KB_EMBEDDING": "none", "TENANT": "other"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert read_environment(given) == environment(settings, "postgresql://u@h/d")
    shared = Environment.model_fields.keys() & settings.model_dump().keys()
    assert shared == set(Environment.model_fields)
    assert {name for name in settings.model_dump() if name.startswith("kb_")} - shared == {"kb_autoload"}
    assert read_environment(given).kb_content == settings.kb_content
    assert read_environment(given).config.chunking.max_chars == 700


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({}, "DATABASE_URL"),
        ({"DATABASE_URL": "mysql://x"}, "DATABASE_URL"),
        ({"DATABASE_URL": "postgresql://u@h/d", "KB_MAX_FILE_MB": "many"}, "KB_MAX_FILE_MB"),
        ({"DATABASE_URL": "postgresql://u@h/d", "KB_STORE": "files"}, "KB_STORE"),
    ],
)
def test_a_wrong_key_is_named(given: dict[str, str], key: str) -> None:
    """And its value is not shown: it may be a secret."""
    with pytest.raises(InvalidRequest) as refused:
        read_environment(given)
    assert refused.value.field == key


async def test_a_command_line_means_one_source(tmp_path: Path) -> None:
    """Known by its address at every run; the folder that the service fills its base from is the same for all."""
    (tmp_path / "urls.txt").write_text("# ours\nhttps://a.example/x\n")
    content = tmp_path / "content"
    content.mkdir()
    policy = SourcePolicy(1000, content)

    def name(request: Request) -> str:
        source = request.source(policy)
        return source.name if source else ""

    assert name(Request(str(tmp_path))) == tmp_path.as_uri()
    assert name(Request(str(tmp_path), name="mine")) == "mine"
    assert name(Request(str(content / ".." / "content"))) == "content"
    assert name(Request("s3://bucket/docs/")) == "s3://bucket/docs"
    assert name(Request(reindex=True)) == ""
    pages = Request(urls=tmp_path / "urls.txt").source(policy)
    assert pages is not None
    assert pages.name == f"urls:{(tmp_path / 'urls.txt').as_uri()}"
    assert [each.uri async for each in pages.list()] == ["https://a.example/x"]
    for percent in (float("nan"), -1, 101):
        with pytest.raises(InvalidRequest, match="--allow-delete-percent: must be 0 to 100"):
            Request(str(tmp_path), delete_limit_percent=percent)
    with pytest.raises(InvalidRequest, match="one of the two"):
        Request(str(tmp_path), tmp_path / "urls.txt").source(policy)
