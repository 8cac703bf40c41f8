"""The order of a route: exact where it can be, never worse than what it began with elsewhere."""

from __future__ import annotations

import random
import time
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.coordination.routes import (
    EXACT_STOPS,
    Place,
    best_order,
    distances,
    exact,
    length,
    miles,
    nearest_neighbour,
    two_opt,
)

OFFICE = (28.0, -82.0)
PLACES = st.tuples(st.floats(27.5, 28.5), st.floats(-82.5, -81.5))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((28.0, -82.0), (28.0, -82.0), 0.0),
        ((0.0, 0.0), (0.0, 1.0), 69.098),  # a degree of the equator: 2 * pi * 3959 / 360
        ((0.0, 0.0), (90.0, 0.0), 6218.783),
        ((0.0, 0.0), (0.0, 180.0), 12437.566),
    ],
)
def test_distances_are_those_of_a_globe(one: Place, other: Place, expected: float) -> None:
    """In miles, on an earth with a radius of 3,959."""
    assert miles(one, other) == pytest.approx(expected, abs=0.001)
    assert miles(other, one) == pytest.approx(miles(one, other))


@settings(deadline=None)
@given(st.lists(PLACES, min_size=1, max_size=7))
def test_up_to_seven_stops_no_order_is_shorter(stops: list[Place]) -> None:
    """Held against every permutation."""
    between = distances(OFFICE, stops)
    shortest = min(length(order, between) for order in permutations(range(1, len(stops) + 1)))
    found = best_order(between)
    assert sorted(found) == list(range(1, len(stops) + 1))
    assert length(found, between) == pytest.approx(shortest)


@settings(deadline=None)
@given(st.lists(PLACES, min_size=EXACT_STOPS + 1, max_size=25), st.randoms(use_true_random=False))
def test_beyond_that_it_is_never_longer_than_what_it_starts_from(stops: list[Place], draw: random.Random) -> None:
    """Neither than the nearest neighbour, nor than the order given; every stop is visited once."""
    between = distances(OFFICE, stops)
    given_order = list(range(1, len(stops) + 1))
    nearest = nearest_neighbour(between)
    assert sorted(nearest) == given_order
    assert length(two_opt(nearest, between), between) <= length(nearest, between) + 1e-6
    draw.shuffle(mixed := list(given_order))
    assert sorted(two_opt(mixed, between)) == given_order
    found = best_order(between)
    assert sorted(found) == given_order
    assert length(found, between) <= min(length(nearest, between), length(given_order, between)) + 1e-6


def test_two_opt_untangles_a_crossing() -> None:
    """Four corners of a square, visited crosswise."""
    between = distances((0.0, 0.0), [(0.0, 1.0), (1.0, 0.0), (1.0, 1.0), (0.0, 2.0)])
    crossed = [2, 1, 3, 4]
    assert length(two_opt(crossed, between), between) < length(crossed, between)


def test_fifty_stops_do_not_hold_the_event_loop() -> None:
    """Generous: it takes a few milliseconds."""
    draw = random.Random(7)
    stops = [(28 + draw.random() / 3, -82 + draw.random() / 3) for _ in range(50)]
    best = min(_seconds(stops) for _ in range(3))
    assert best < 0.05


def _seconds(stops: list[Place]) -> float:
    begun = time.process_time()
    best_order(distances(OFFICE, stops))
    return time.process_time() - begun


def test_a_single_stop_is_a_route() -> None:
    """There is nothing to choose."""
    assert exact(distances(OFFICE, [(28.1, -82.1)])) == [1]
