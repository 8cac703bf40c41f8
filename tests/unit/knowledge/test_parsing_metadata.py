"""Front matter and sidecars become attributes; what is wrong with one is said with file, key and fix."""

import json
from typing import Any

import pytest

from knowledge_base.chunking import ChunkingConfig, chunk
from knowledge_base.documents import Parsed, embedded_text
from knowledge_base.errors import Refused
from knowledge_base.parsing import Limits, parse
from tests.unit.knowledge.files import raw


def read(front: str, sidecar: object = None) -> Parsed:
    text = f"---\n{front}\n---\n\n# Seen\n\nText." if front else "# Seen\n\nText."
    beside = None if sidecar is None else json.dumps(sidecar)
    return parse(raw("a.md", text, sidecar=beside), Limits())


def fault(front: str = "", sidecar: str | None = None) -> str:
    text = f"---\n{front}\n---\n\nText." if front else "Text."
    with pytest.raises(Refused) as refused:
        parse(raw("a.md", text, sidecar=sidecar), Limits())
    assert refused.value.reason == "bad_metadata"
    return str(refused.value)


def test_front_matter_becomes_attributes() -> None:
    """Scalars and lists as YAML 1.2 has them; keys below a key are joined to it; dates are ISO texts."""
    parsed = read(
        "doc_id: faq-01\ntitle: 'Told: so'\naudience: [residential, business]\nvalid_from: 2026-1-5\n"
        "locations: [NO, 12:30, 7]\n"
        "count: 3\nshare: 0.5\nopen: true\nphone: 0301234\nempty:\nauthor:\n  name: Jo\n  team: {no: 4}\n"
        "note: |\n  two\n  lines"
    )

    assert parsed.attributes == {
        "doc_id": "faq-01",
        "title": "Told: so",
        "audience": ["residential", "business"],
        "valid_from": "2026-01-05",
        "locations": ["NO", "12:30", "7"],
        "count": 3,
        "share": 0.5,
        "open": True,
        "phone": "0301234",
        "author.name": "Jo",
        "author.team.no": 4,
        "note": "two\nlines",
    }
    assert (parsed.doc_id, parsed.title, parsed.text) == ("faq-01", "Told: so", "# Seen\n\nText.")


def test_a_rule_at_the_head_is_no_front_matter() -> None:
    """Nor is one that never ends, and none is looked for in other kinds."""
    for text in ("---\n\nJust a line.\n\n---\n\nMore.", "---\nkey: value\n\nMore."):
        parsed = parse(raw("a.md", text), Limits())
        assert (parsed.text, parsed.attributes) == (text, {})
    assert parse(raw("a.txt", "---\na: b\n---\nText"), Limits()).attributes == {}


def test_a_sidecar_beats_front_matter() -> None:
    """Plain and typed values; those to embed stand beside the text of every chunk."""
    typed: dict[str, Any] = {
        "region": "EU",
        "year": {"value": {"type": "NUMBER", "numberValue": 2026}, "includeForEmbedding": True},
        "open": {"value": {"type": "BOOLEAN", "booleanValue": False}},
        "tags": {"value": {"type": "STRING_LIST", "stringListValue": ["a", "b"]}, "includeForEmbedding": True},
        "title": {"value": {"type": "STRING", "stringValue": "Beside"}, "includeForEmbedding": False},
        "plain": ["x", "y"],
    }
    parsed = read("region: US\nkept: yes", {"metadataAttributes": typed})

    assert parsed.attributes == {
        "region": "EU",
        "kept": "yes",
        "year": 2026,
        "open": False,
        "tags": ["a", "b"],
        "title": "Beside",
        "plain": ["x", "y"],
    }
    assert parsed.title == "Beside"
    (only,) = chunk(parsed, ChunkingConfig())
    assert embedded_text(parsed.title, only) == "Beside > Seen\nyear: 2026\ntags: a, b\n# Seen\n\nText."


BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]"


@pytest.mark.parametrize(
    ("front", "told"),
    [
        (BOMB, "anchor"),
        ("ok: 1\nkey: [a, [b]]", "line 3: `key`"),
        ("key: [{a: b}]", "`key`"),
        ("key: !!python/object/apply:os.system [x]", "tag"),
        ("key: a\nkey: b", "twice"),
        ("key: a: b", "line 2"),
        ("key: [a", "front matter"),
        ("title: [a, b]", "`title`"),
        ("doc_id: ''", "`doc_id`"),
        ("doc_id: " + "x" * 501, "`doc_id`"),
        ("number: 99999999999999999999", "`number`"),
        ("? [a, b]\n: c\nkey: d", "key must be a text"),
        ("a: {b: {c: {d: {e: {f: 1}}}}}", "nested"),
        ("key: " + "[" * 5000, "nested"),
        ("key: " + "x" * 20_000, "16 KB"),
        ("k" * 101 + ": 1", "1 to 100 characters"),
    ],
)
def test_bad_front_matter_is_named(front: str, told: str) -> None:
    """By file, key or line, and fix."""
    message = fault(front)
    assert message.startswith("a.md")
    assert told in message


@pytest.mark.parametrize(
    ("sidecar", "told"),
    [
        ("{", "line 1"),
        ("[]", "metadataAttributes"),
        ('{"metadataAttributes": {"a": null}}', "`a`"),
        ('{"metadataAttributes": {"a": [1]}}', "`a`"),
        ('{"metadataAttributes": {"a": 1, "a": 2}}', "twice"),
        ('{"metadataAttributes": {"a": NaN}}', "NaN"),
        ('{"metadataAttributes": {"a": 1e999}}', "`a`"),
        ('{"metadataAttributes": {"": 1}}', "key"),
        ('{"metadataAttributes": {"a": {"value": 1}}}', "`a`"),
        ('{"metadataAttributes": {"a": {"value": {"type": "DATE"}}}}', "a.value.type"),
        ('{"metadataAttributes": {"a": {"value": {"type": "NUMBER", "stringValue": "1"}}}}', "numberValue"),
        ('{"metadataAttributes": {"a": {"value": {"type": "NUMBER", "numberValue": true}}}}', "a.value.numberValue"),
        (
            '{"metadataAttributes": {"a": {"value": {"type": "STRING", "stringValue": ""}, "includeForEmbedding": 1}}}',
            "include",
        ),
        ("[" * 50_000, "nested"),
        ('{"metadataAttributes": {"a": ' + "9" * 5000 + "}}", "digits"),
        ('{"metadataAttributes": {"a": ' + "9" * 400 + "}}", "2^63"),
        ('{"metadataAttributes": {"a": "' + "x" * 70_000 + '"}}', "64 KB"),
    ],
)
def test_a_bad_sidecar_is_named(sidecar: str, told: str) -> None:
    """By its own name, key and fix."""
    message = fault(sidecar=sidecar)
    assert message.startswith("a.md.metadata.json")
    assert told in message
