"""Documents, a search, a citation: from the database to the answers of the API and the stored conversation."""

from __future__ import annotations

from typing import Any

from tests.integration.knowledge_service import OPS, knowing

QUESTION = "do dogs and cats have to be secured during the visit?"


async def test_an_answer_carries_its_sources_and_the_record_keeps_them(database_url: str, redis_url: str) -> None:
    """In the JSON answer, in the stored message, and no more once the document is gone; for others' documents never."""
    async with knowing(database_url, redis_url) as client:

        async def ask(text: str) -> dict[str, Any]:
            answer = await client.post("/api/v1/chat", json={"message": text})
            assert answer.status_code == 200, answer.text
            found: dict[str, Any] = answer.json()
            return found

        answer = await ask(QUESTION)
        (source,) = answer["citations"]
        assert (source["document_id"], source["number"], source["version"]) == ("pets.md", 1, 1)
        text = answer["text"]
        assert text[source["text_start"] : source["text_end"]] == source["quote"]
        parsed = (await client.get("/api/v1/kb/default/documents/pets.md/stages/parsed", headers=OPS)).text
        assert source["quote"] in parsed[source["start"] : source["end"]]
        stored = (await client.get(f"/api/v1/sessions/{answer['session_id']}/messages")).json()["messages"]
        assert [each["document_id"] for each in stored[-1]["body"]["citations"]] == ["pets.md"]
        assert (await ask("what margin does the office have with a window visit?"))["citations"] == []
        gone = await client.delete("/api/v1/kb/default/documents/pets.md", headers=OPS)
        assert gone.is_success, gone.text
        after = await ask(QUESTION)
        assert after["citations"] == []
        assert "secured" not in after["text"]
