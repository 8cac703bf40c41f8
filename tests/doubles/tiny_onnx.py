"""A text encoder of a few hundred bytes, written as protobuf by hand: each word has a vector, looked up by its number.

folder = write_encoder(tmp_path)      # model.onnx and tokenizer.json
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "refund", "roof", "window", "takes", "days", "a", "new")
DIMENSION = 6
FLOAT, INT64 = 1, 7
Output = Literal["last_hidden_state", "sentence_embedding"]


def table(seed: int = 1) -> NDArray[np.float32]:
    """The vectors of `WORDS`."""
    return np.random.default_rng(seed).normal(size=(len(WORDS), DIMENSION)).astype(np.float32)


def write_encoder(folder: Path, *, output: Output = "last_hidden_state", window: int | None = None) -> Path:
    """`model.onnx` and `tokenizer.json`; the tokenizer says that the model reads `window` tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(encoder(output))
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    if window is not None:
        tokenizer.enable_truncation(max_length=window)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def encoder(output: Output = "last_hidden_state") -> bytes:
    """An ONNX model: `Gather` from the table and, for a vector of the text, its mean over all places."""
    gathered = "last_hidden_state" if output == "last_hidden_state" else "tokens"
    nodes = [_node("Gather", ["table", "input_ids"], gathered)]
    if output == "sentence_embedding":
        axes = _field(5, _text(1, "axes") + _number(8, 1) + _number(20, 7))
        keep = _field(5, _text(1, "keepdims") + _number(3, 0) + _number(20, 2))
        nodes.append(_node("ReduceMean", [gathered], output, axes + keep))
    numbers = table()
    weights = b"".join(_number(1, size) for size in numbers.shape) + _number(2, FLOAT) + _text(8, "table")
    shape: tuple[str | int, ...] = ("batch", "sequence", DIMENSION) if output == gathered else ("batch", DIMENSION)
    graph = (
        b"".join(_field(1, node) for node in nodes)
        + _text(2, "encoder")
        + _field(5, weights + _field(9, numbers.tobytes()))
        + _field(11, _value("input_ids", INT64, ("batch", "sequence")))
        + _field(11, _value("attention_mask", INT64, ("batch", "sequence")))
        + _field(12, _value(output, FLOAT, shape))
    )
    return _number(1, 8) + _field(8, _text(1, "") + _number(2, 13)) + _field(7, graph)


def _node(kind: str, inputs: Sequence[str], output: str, attributes: bytes = b"") -> bytes:
    return b"".join(_text(1, name) for name in inputs) + _text(2, output) + _text(4, kind) + attributes


def _value(name: str, kind: int, shape: Sequence[str | int]) -> bytes:
    sizes = (_text(2, size) if isinstance(size, str) else _number(1, size) for size in shape)
    tensor = _number(1, kind) + _field(2, b"".join(_field(1, size) for size in sizes))
    return _text(1, name) + _field(2, _field(1, tensor))


def _number(tag: int, value: int) -> bytes:
    return _varint(tag << 3) + _varint(value)


def _text(tag: int, value: str) -> bytes:
    return _field(tag, value.encode())


def _field(tag: int, content: bytes) -> bytes:
    return _varint(tag << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes(parts) + bytes([value])
