"""Lists of ids as dispatchers write them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.id_lists import ranges_of, read_id_list


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("500101", ["500101"]),
        (500101, ["500101"]),
        ("500101, 500102 500103;500104", ["500101", "500102", "500103", "500104"]),
        ("500101-500103", ["500101", "500102", "500103"]),
        ("500101 thru 500103", ["500101", "500102", "500103"]),
        ("500101 to 500103 and 500105", ["500101", "500102", "500103", "500105"]),
        ("#500101 – #500102 & 500104", ["500101", "500102", "500104"]),
        ("500108-12", ["500108", "500109", "500110", "500111", "500112"]),
        ("098-101", ["098", "099", "100", "101"]),
        (["500101-500102", 500105, "500107 500102"], ["500101", "500102", "500105", "500107"]),
        ("500101, 500101, 500100-500102", ["500101", "500100", "500102"]),
        (["SO-26-1001_1", "A-7"], ["SO-26-1001_1", "A-7"]),
    ],
)
def test_ids_and_ranges_are_written_out(written: Any, meant: list[str]) -> None:
    """In the order given, each once."""
    assert list(read_id_list(written)) == meant


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("", "1 to 100 ids; none was"),
        ([], "1 to 100 ids; none was"),
        ("500112-500101", "runs backwards"),
        ("500101-500300", "200 were given"),
        ("1-999999999999", "alone has 999,999,999,999"),
        ("50%", "'50%', which is no id"),
        (None, "must be a list of ids"),
        ([True], "must be a list of ids"),
        ([["500101"]], "must be a list of ids"),
        ({"from": 1}, "must be a list of ids"),
    ],
)
def test_what_is_no_such_list_is_named(written: Any, complaint: str) -> None:
    """A range is refused by its size before it is written out."""
    with pytest.raises(ValueError, match=complaint):
        read_id_list(written)


def test_limits_count_what_ranges_hold_and_repeats_do_not() -> None:
    """Expansion and dropping come before the limit."""
    assert len(read_id_list("1-50, 20-50", least=2, most=50)) == 50
    with pytest.raises(ValueError, match="2 to 50 ids; 51 were given"):
        read_id_list("1-51", least=2, most=50)
    with pytest.raises(ValueError, match="2 to 50 ids; 1 was given"):
        read_id_list("7, 7", least=2, most=50)


@given(st.lists(st.integers(10_000, 99_999), min_size=1, max_size=40), st.sampled_from([", ", " ", ";", " and ", ","]))
def test_any_list_comes_back_without_repeats(numbers: list[int], joint: str) -> None:
    """However the numbers are joined."""
    assert list(read_id_list(joint.join(map(str, numbers)))) == list(dict.fromkeys(map(str, numbers)))


@given(st.integers(10_000, 99_000), st.integers(0, 90), st.sampled_from(["-", " - ", " to ", " thru ", "..", "–"]))
def test_any_range_is_complete(first: int, more: int, joint: str) -> None:
    """Both ends included."""
    assert [int(each) for each in read_id_list(f"{first}{joint}{first + more}")] == list(range(first, first + more + 1))


@pytest.mark.parametrize("text", ["2026-03-17", "3/17-3/18", "SO-26-1001_1", "call 555-0111x"])
def test_dates_and_order_numbers_are_no_long_ranges(text: str) -> None:
    """Only numbers that stand alone make one."""
    assert [first for _, _, first, _ in ranges_of(text) if len(first) >= 5] == []
