"""What the commands say, and what they end with."""

from __future__ import annotations

import json

import pytest

from backend.cli.kb_text import tell_faults
from knowledge_base.stores.base import Fault


def test_a_repair_that_left_something_does_not_end_well(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever else it mended."""
    mended, left = Fault("words_differ", "the base", 2), Fault("raw_missing", "a.md", 1)
    assert tell_faults([mended, left], [left], as_json=False) == 1
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()[1:3]] == ["yes", "no"]
    assert tell_faults([mended], [], as_json=True) == 0
    assert [each["mended"] for each in json.loads(capsys.readouterr().out)] == [True]
    assert tell_faults([left], [left], as_json=True) == 1
