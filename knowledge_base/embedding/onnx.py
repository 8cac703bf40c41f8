"""Your own weights: a `model.onnx` with its `tokenizer.json`, run here by onnxruntime."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knowledge_base.embedding.base import EmbeddingModel, Vectors
from knowledge_base.embedding.prefixes import Prefixes, prefixes_of
from knowledge_base.embedding.vectors import unit_vectors
from knowledge_base.embedding.weights import Weights, find_weights
from knowledge_base.errors import EmbeddingFailed

EXTRA = "KB_EMBEDDING=onnx needs two packages: pip install 'outcrop[onnx]'"
TEXTS = 64  # a run
TOKENS = 512  # a window, unless the tokenizer says less
BATCH_TOKENS = 8192  # padded; more costs memory and is not faster on a CPU
# Where the first token's vector stands for the text; elsewhere it is the mean over all tokens.
CLS_FAMILIES = ("bge", "bge-zh", "mxbai", "arctic", "arctic2")
# A vector of the whole text, if the model has such an output.
_SENTENCE = ("sentence_embedding", "embeddings", "embedding", "text_embeds")
_TOKENS = ("last_hidden_state", "token_embeddings", "hidden_states", "output_0")
_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})


class OnnxEmbedder:
    """`model` is a folder, a file, or the address of a file; `sha256` (hex) is that of the weights.

    A text longer than the model's window is read in windows, and its vector is their mean by length.
    """

    def __init__(self, model: str, sha256: str, *, data_dir: Path, threads: int = 0) -> None:
        """`threads` 0: as many as there are processors, at most four."""
        self._source, self._sha256, self._folder = model, sha256, data_dir / "models"
        self._threads = threads or min(os.cpu_count() or 1, 4)
        self._loaded: _Loaded | None = None
        self._opening = asyncio.Lock()
        # One run of documents at a time, which has all the threads there are; and one of a question beside it.
        self._documents, self._questions = asyncio.Lock(), asyncio.Lock()

    @property
    def model(self) -> EmbeddingModel:
        """See `Embedder`."""
        if self._loaded is None:
            raise EmbeddingFailed("the ONNX model is not loaded yet")
        return self._loaded.model

    async def identify(self) -> EmbeddingModel:
        """See `Embedder`; fetches, checks and loads the weights the first time."""
        return (await self._ready()).model

    async def documents(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder`."""
        loaded = await self._ready()
        done = np.zeros((len(texts), loaded.model.dimension), dtype=np.float32)
        for start in range(0, len(texts), TEXTS):
            part = [loaded.prefixes.document + text for text in texts[start : start + TEXTS]]
            async with self._documents:
                done[start : start + len(part)] = await asyncio.to_thread(loaded.embed, part)
        return done

    async def query(self, text: str) -> NDArray[np.float32]:
        """See `Embedder`."""
        loaded = await self._ready()
        async with self._questions:
            vectors = await asyncio.to_thread(loaded.embed, [loaded.prefixes.query + text])
        vector: NDArray[np.float32] = vectors[0]
        return vector

    async def close(self) -> None:
        """See `Embedder`; the weights go when nothing refers to them."""
        self._loaded = None

    async def _ready(self) -> _Loaded:
        async with self._opening:
            if self._loaded is None:
                weights = await find_weights(self._source, self._sha256, self._folder)
                self._loaded = await asyncio.to_thread(_load, weights, prefixes_of(self._source), self._threads)
            return self._loaded


@dataclass(frozen=True, slots=True)
class _Output:
    """Which output is read, and whether its rows are texts (2 axes) or tokens (3)."""

    name: str
    axes: int
    first_token: bool


@dataclass(frozen=True)
class _Loaded:
    model: EmbeddingModel
    prefixes: Prefixes
    session: Any
    tokenizer: Any
    inputs: tuple[str, ...]
    output: _Output
    pad: int

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Blocking; unit vectors."""
        windows: list[Any] = []
        owners: list[int] = []
        for n, encoding in enumerate(self.tokenizer.encode_batch(list(texts))):
            for window in (encoding, *encoding.overflowing):
                windows.append(window.ids)
                owners.append(n)
        vectors = self._vectors(windows)
        sums = np.zeros((len(texts), vectors.shape[1]), dtype=np.float32)
        sizes = np.array([len(ids) for ids in windows], dtype=np.float32)[:, None]
        np.add.at(sums, np.array(owners), vectors * sizes)
        return unit_vectors(
            sums, count=len(texts), dimension=None, source="the ONNX model", fix="see what KB_EMBEDDING_MODEL names"
        )

    def _vectors(self, windows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Unit vectors of windows, the long ones apart from the short ones so that little is padded."""
        order = sorted(range(len(windows)), key=lambda n: -len(windows[n]))
        done: NDArray[np.float32] | None = None
        start = 0
        while start < len(order):
            longest = max(len(windows[order[start]]), 1)
            chosen = order[start : start + max(BATCH_TOKENS // longest, 1)]
            part = self._forward([windows[n] for n in chosen], longest)
            if done is None:
                done = np.zeros((len(windows), part.shape[1]), dtype=np.float32)
            done[chosen] = part
            start += len(chosen)
        assert done is not None
        return done

    def _forward(self, windows: Sequence[Sequence[int]], longest: int) -> Vectors:
        ids = np.full((len(windows), longest), self.pad, dtype=np.int64)
        mask = np.zeros((len(windows), longest), dtype=np.int64)
        for n, window in enumerate(windows):
            ids[n, : len(window)] = window
            mask[n, : len(window)] = 1
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        try:
            (found,) = self.session.run([self.output.name], {name: given[name] for name in self.inputs})
        except Exception as error:  # classes of its own, which exist only once it is imported
            raise EmbeddingFailed(f"the ONNX model cannot be run: {_said(error)}") from error
        return unit_vectors(
            _pooled(np.asarray(found, dtype=np.float32), mask, self.output),
            count=len(windows),
            dimension=None,
            source="the ONNX model",
            fix="see what KB_EMBEDDING_MODEL names",
        )


def _pooled(found: NDArray[np.float32], mask: NDArray[np.int64], output: _Output) -> NDArray[np.float32]:
    if output.axes == 2:
        return found
    if output.first_token:
        first: NDArray[np.float32] = found[:, 0]
        return first
    weights = mask[:, :, None].astype(np.float32)
    mean: NDArray[np.float32] = (found * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1.0)
    return mean


def _load(weights: Weights, prefixes: Prefixes, threads: int) -> _Loaded:
    try:
        import onnxruntime
        from tokenizers import Tokenizer
    except ImportError as error:
        raise EmbeddingFailed(EXTRA) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that wait would otherwise spin, on processors that a service has other use for.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(str(weights.model), options, providers=["CPUExecutionProvider"])
        tokenizer = Tokenizer.from_file(str(weights.tokenizer))
    except Exception as error:  # classes of their own, which exist only once they are imported
        raise EmbeddingFailed(f"the ONNX model cannot be loaded: {_said(error)}") from error
    limit = int((tokenizer.truncation or {}).get("max_length") or TOKENS)
    pad = int((tokenizer.padding or {}).get("pad_id") or 0)
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length=min(limit, TOKENS))
    inputs = tuple(each.name for each in session.get_inputs())
    if "input_ids" not in inputs or not _INPUTS.issuperset(inputs):
        raise EmbeddingFailed(f"the ONNX model wants {', '.join(inputs)}; a text encoder takes input_ids and a mask")
    output = _chosen(session, prefixes)
    loaded = _Loaded(EmbeddingModel("", 0), prefixes, session, tokenizer, inputs, output, pad)
    family = f"+{prefixes.family}" if prefixes.family else ""
    name = f"onnx:{weights.model_hash[:12]}-{weights.tokenizer_hash[:8]}{family}"
    dimension = loaded.embed(["How long are the vectors?"]).shape[1]
    return _Loaded(EmbeddingModel(name, dimension), prefixes, session, tokenizer, inputs, output, pad)


def _chosen(session: Any, prefixes: Prefixes) -> _Output:
    """The output that holds vectors: of texts where one is named so, else of tokens, else the first that can be."""
    there = {each.name: len(each.shape) for each in session.get_outputs()}
    named = [name for name in _SENTENCE if there.get(name) == 2] + [name for name in _TOKENS if there.get(name) == 3]
    name = next(iter(named or [name for name, axes in there.items() if axes in (2, 3)]), None)
    if name is None:
        raise EmbeddingFailed("the ONNX model has no output of vectors; export a text encoder")
    return _Output(name, there[name], prefixes.family in CLS_FAMILIES)


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
