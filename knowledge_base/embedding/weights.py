"""Weights on this machine: found in a folder, or fetched once; never used with another hash than the one given."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO
from urllib.parse import urljoin, urlsplit

import aiohttp
import orjson

from knowledge_base.embedding.calls import shown
from knowledge_base.errors import EmbeddingFailed

MAX_WEIGHTS = 2 * 1024**3  # a protobuf cannot be longer
MAX_TOKENIZER = 64 * 1024**2
FETCH_S = 1800.0
PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Weights:
    """Checked files, with their SHA-256 in hex."""

    model: Path
    model_hash: str
    tokenizer: Path
    tokenizer_hash: str


class _Missing(Exception):
    """The server has no such file."""


async def find_weights(source: str, wanted: str, folder: Path) -> Weights:
    """The files of a folder, a path or an address; fetched ones are kept below `folder`, under the hash.

    Raises:
        EmbeddingFailed: not there, too large, or not what the hash says.
    """
    if source.startswith(("http://", "https://")):
        model, tokenizer = await _fetched(source, wanted, folder / wanted[:16])
    else:
        model, tokenizer = await asyncio.to_thread(_in_folder, source)
    found = await asyncio.to_thread(_hash_of, model)
    if found != wanted:
        raise EmbeddingFailed(
            f"the ONNX weights have SHA-256 {found}, and KB_EMBEDDING_SHA256 says {wanted}; they were changed, or are "
            "not the ones you mean: nothing was loaded"
        )
    return Weights(model, found, tokenizer, await asyncio.to_thread(_hash_of, tokenizer))


def _in_folder(source: str) -> tuple[Path, Path]:
    path = Path(source).expanduser()
    model = path / "model.onnx" if path.is_dir() else path
    if not model.is_file():
        raise EmbeddingFailed(f"KB_EMBEDDING_MODEL: there is no {model.name} at that path")
    if model.stat().st_size > MAX_WEIGHTS:
        raise EmbeddingFailed(f"KB_EMBEDDING_MODEL: {model.name} is larger than {MAX_WEIGHTS >> 20} MB")
    beside = [folder / "tokenizer.json" for folder in (model.parent, model.parent.parent)]
    tokenizer = next((each for each in beside if each.is_file()), None)
    if tokenizer is None:
        raise EmbeddingFailed(f"KB_EMBEDDING_MODEL: there is no tokenizer.json beside {model.name}, nor a folder above")
    return model, tokenizer


async def _fetched(source: str, wanted: str, folder: Path) -> tuple[Path, Path]:
    model, tokenizer = folder / "model.onnx", folder / "tokenizer.json"
    missing = await asyncio.to_thread(_not_yet_in, folder, (tokenizer, model))
    if not missing:
        return model, tokenizer
    limits = aiohttp.ClientTimeout(total=FETCH_S, sock_connect=10.0, sock_read=60.0)
    async with aiohttp.ClientSession(timeout=limits) as http:
        if tokenizer in missing:
            await _fetch_tokenizer(http, source, tokenizer)
        if model in missing:
            try:
                await _fetch(http, source, model, MAX_WEIGHTS, partial(_accept_weights, source, wanted))
            except _Missing as error:
                raise EmbeddingFailed(f"{shown(source)} has no {_name(source)}; check KB_EMBEDDING_MODEL") from error
    return model, tokenizer


def _not_yet_in(folder: Path, files: tuple[Path, ...]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    return [file for file in files if not file.is_file()]


def _accept_weights(source: str, wanted: str, file: Path) -> None:
    if (found := _hash_of(file)) != wanted:
        raise EmbeddingFailed(
            f"{_name(source)} at {shown(source)} has SHA-256 {found}, and KB_EMBEDDING_SHA256 says {wanted}; nothing "
            "was kept"
        )


def _accept_tokenizer(source: str, file: Path) -> None:
    try:
        found = orjson.loads(file.read_bytes())
    except ValueError:
        found = None
    if not isinstance(found, dict) or "model" not in found:
        raise EmbeddingFailed(f"{_name(source)} at {shown(source)} is no tokenizer of the tokenizers library")


async def _fetch_tokenizer(http: aiohttp.ClientSession, source: str, target: Path) -> None:
    """Beside the weights, or a folder above, as hubs keep them."""
    bare = source.split("?", 1)[0]
    for address in (urljoin(bare, "tokenizer.json"), urljoin(bare, "../tokenizer.json")):
        try:
            return await _fetch(http, address, target, MAX_TOKENIZER, partial(_accept_tokenizer, address))
        except _Missing:
            continue
    raise EmbeddingFailed(f"{shown(source)} has no tokenizer.json beside the weights, nor a folder above")


async def _fetch(
    http: aiohttp.ClientSession, source: str, target: Path, limit: int, accept: Callable[[Path], None]
) -> None:
    """Write `target` whole and accepted, or not at all."""
    size = 0
    try:
        async with http.get(source) as answer:
            if answer.status in (404, 410):
                raise _Missing
            if answer.status != 200:
                raise EmbeddingFailed(f"{shown(source)} does not give {_name(source)} ({answer.status})")
            with _appearing(target) as file:
                async for piece in answer.content.iter_chunked(PIECE):
                    size += len(piece)
                    if size > limit:
                        raise EmbeddingFailed(f"{_name(source)} at {shown(source)} is larger than {limit >> 20} MB")
                    await asyncio.to_thread(file.write, piece)
                file.flush()
                await asyncio.to_thread(accept, Path(file.name))
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise EmbeddingFailed(
            f"{_name(source)} cannot be fetched from {shown(source)} ({type(error).__name__}); see the network, or "
            "fetch it yourself and name its path in KB_EMBEDDING_MODEL"
        ) from error


@contextmanager
def _appearing(target: Path) -> Iterator[IO[bytes]]:
    """A file that is there under its name once it is whole, for whoever else fetches the same."""
    with NamedTemporaryFile(dir=target.parent, prefix=".fetching-", delete=False) as file:
        try:
            yield file
            os.fsync(file.fileno())
        except BaseException:
            os.unlink(file.name)
            raise
    os.replace(file.name, target)


def _name(source: str) -> str:
    return urlsplit(source).path.rsplit("/", 1)[-1] or "the file"


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        digest = sha256()
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()
