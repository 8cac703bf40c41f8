"""What the contract of knowledge stores is held against: pgvector, and Chroma with a server of its own per worker."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from knowledge_base.documents import Chunk, Found, Parsed, Raw
from knowledge_base.embedding.base import EmbeddingModel
from knowledge_base.stores.base import Ready
from tests.ports import free_port

DIMENSION = 16
MODEL = EmbeddingModel("test:drawn", DIMENSION)


def unit(*seed: int) -> NDArray[np.float32]:
    """A vector of length 1, the same for the same seed."""
    drawn = np.random.default_rng(seed).normal(size=DIMENSION)
    return (drawn / np.linalg.norm(drawn)).astype(np.float32)


def ready(
    doc_id: str,
    texts: Sequence[str],
    attributes: dict[str, Any] | None = None,
    *,
    seed: int = 0,
    source: str = "folder",
    stamp: str = "1",
    vectors: bool = True,
) -> Ready:
    """A document with a chunk for each text."""
    chunks, at = [], 0
    for ordinal, text in enumerate(texts):
        parent = (0, at + len(text)) if ordinal else None
        same = list(texts[:ordinal]).count(text)
        chunks.append(Chunk(ordinal, at, at + len(text), text, f"Part {ordinal}", 1, parent, same))
        at += len(text) + 1
    text = "\n".join(texts)
    found = Found(doc_id, f"file:///{doc_id}.txt", f"{doc_id}.txt", len(text), stamp)
    made = np.array([unit(seed, n) for n in range(len(texts))], np.float32).reshape(len(texts), DIMENSION)
    raw = Raw(found, text.encode("utf-8", "surrogatepass"))
    parsed = Parsed(text, f"About {doc_id}", "text/plain", attributes or {})
    return Ready(source, doc_id, raw, parsed, chunks, made if vectors else None)


@contextmanager
def chroma_server(folder: Path) -> Iterator[str]:
    """`chroma run`; its URL."""
    port = free_port()
    argv = [str(Path(sys.executable).parent / "chroma"), "run", "--path", str(folder), "--port", str(port)]
    with (folder / "chroma.log").open("wb") as log:
        process = subprocess.Popen([*argv, "--host", "127.0.0.1"], stdout=log, stderr=log, cwd=folder)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(url, process, folder / "chroma.log")
        yield url
    finally:
        process.terminate()
        process.wait(timeout=20)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/api/v2/heartbeat").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise RuntimeError(f"chroma did not start:\n{log.read_text()[-2000:]}")
