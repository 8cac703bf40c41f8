"""The shortest way past a number of places: open paths on the globe, from a start that is no stop.

Exact up to `EXACT_STOPS`; beyond that the nearest neighbour, improved by 2-opt. Distances are great-circle distances in
miles. At one speed for all roads the shortest way is also the fastest and the cheapest.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import asin, cos, radians, sin, sqrt

EARTH_RADIUS_MI = 3959.0
EXACT_STOPS = 9
_GAIN = 1e-9  # a change must save more than rounding does, or 2-opt could go round in circles

Place = tuple[float, float]  # latitude and longitude in degrees
Matrix = list[list[float]]


def miles(one: Place, other: Place) -> float:
    """Great-circle distance (haversine)."""
    lat1, lat2 = radians(one[0]), radians(other[0])
    half = sin((lat2 - lat1) / 2) ** 2 + cos(lat1) * cos(lat2) * sin(radians(other[1] - one[1]) / 2) ** 2
    return 2 * EARTH_RADIUS_MI * asin(min(1.0, sqrt(half)))


def distances(start: Place, stops: Sequence[Place]) -> Matrix:
    """Miles between all places; number 0 is the start, number n the nth stop."""
    places = [start, *stops]
    rows = [[0.0] * len(places) for _ in places]
    for one, here in enumerate(places):
        for other in range(one):
            rows[one][other] = rows[other][one] = miles(here, places[other])
    return rows


def length(order: Sequence[int], between: Matrix) -> float:
    """Miles of a path from the start past stops in this order (numbers from 1)."""
    total, here = 0.0, 0
    for stop in order:
        total += between[here][stop]
        here = stop
    return total


def best_order(between: Matrix) -> list[int]:
    """Numbers of all stops (from 1) in a good order, the best one up to `EXACT_STOPS`.

    Never longer than the given order, nor than going to the nearest next stop each time.
    """
    given = list(range(1, len(between)))
    if len(given) <= EXACT_STOPS:
        return exact(between)
    tries = (two_opt(nearest_neighbour(between), between), two_opt(given, between))
    return min(tries, key=lambda order: length(order, between))


def exact(between: Matrix) -> list[int]:
    """The shortest path past all stops, by dynamic programming over sets of visited stops."""
    stops = range(1, len(between))
    # (set of visited stops as bits, last of them) -> (miles so far, the one before the last)
    best: dict[tuple[int, int], tuple[float, int]] = {(1 << stop, stop): (between[0][stop], 0) for stop in stops}
    layer = list(best)
    for _ in range(len(between) - 2):
        following: dict[tuple[int, int], None] = {}
        for visited, last in layer:
            so_far = best[visited, last][0]
            for stop in stops:
                if visited >> stop & 1:
                    continue
                key, total = (visited | 1 << stop, stop), so_far + between[last][stop]
                if key not in best or total < best[key][0]:
                    best[key] = total, last
                following[key] = None
        layer = list(following)
    if not layer:
        return []
    visited, last = min(layer, key=lambda key: best[key][0])
    order: list[int] = []
    while last:
        order.append(last)
        visited, last = visited & ~(1 << last), best[visited, last][1]
    return order[::-1]


def nearest_neighbour(between: Matrix) -> list[int]:
    """From the start always to the nearest stop that is left."""
    left, here = set(range(1, len(between))), 0
    order: list[int] = []
    while left:
        row = between[here]
        here = min(left, key=lambda stop: (row[stop], stop))
        left.remove(here)
        order.append(here)
    return order


def two_opt(order: Sequence[int], between: Matrix) -> list[int]:
    """The path with pieces of it turned round as long as that makes it shorter. The start stays, the end is open."""
    path = [0, *order]
    last = len(path) - 1
    improved = True
    while improved:
        improved = False
        for i in range(1, last):
            before = path[i - 1]
            row_before = between[before]
            for j in range(i + 1, last + 1):
                first, end = path[i], path[j]
                gain = row_before[first] - row_before[end]
                if j < last:
                    after = path[j + 1]
                    gain += between[end][after] - between[first][after]
                if gain > _GAIN:
                    path[i : j + 1] = path[i : j + 1][::-1]
                    improved = True
    return path[1:]
