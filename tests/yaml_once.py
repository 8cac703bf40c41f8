"""The same YAML text is parsed once in a test process; whoever loads it again gets a copy.

Each simulator and each application reads the whole fixture, 50 ms of parsing, and a run starts a thousand of them.
"""

from __future__ import annotations

import pickle
from typing import Any

import yaml

_READ: dict[str, bytes] = {}
_load = yaml.load


def load_once(stream: Any, Loader: Any) -> Any:
    """`yaml.load`, remembered for the loader that is the same everywhere; what cannot be loaded is not."""
    if Loader is not getattr(yaml, "CSafeLoader", yaml.SafeLoader):
        return _load(stream, Loader)
    text = stream.read() if hasattr(stream, "read") else stream
    if text not in _READ:
        try:
            found = _load(text, Loader)
        except yaml.YAMLError:
            if hasattr(stream, "seek"):
                stream.seek(0)  # the library names the file
            return _load(stream, Loader)
        _READ[text] = pickle.dumps(found)
    return pickle.loads(_READ[text])  # noqa: S301 (our own)


def install() -> None:
    """From now on, for all that calls `yaml.load`."""
    yaml.load = load_once
