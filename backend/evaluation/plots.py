"""Plots of the report's page as inline SVG. Colours come from the page: classes `s0` to `s5` by route."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from backend.evaluation.figures import Figures, percentile

WIDTH = 380  # of the drawing; it is shown as wide as its box, so that letters stay readable on a phone
LEFT, RIGHT, INSET = 40, 10, 8
PLOT_HEIGHT = 230
BAR, BAR_GAP, GROUP_GAP, LABEL = 12, 2, 9, 100
COLOURS = 6
BINS = 20  # of scores
STEPS = 400  # of a cumulative line, at most


def colour(position: int) -> str:
    """The class of the route at this position."""
    return f"s{position % COLOURS}"


def scores_by_tag(numbers: Mapping[str, Figures]) -> str:
    """Grouped bars: for all scenarios and for each tag the share that passed, a bar a route."""
    tags = sorted({tag for each in numbers.values() for tag in each.by_tag})
    groups = [("all", [each.score for each in numbers.values()])]
    groups += [(tag, [each.by_tag[tag] for each in numbers.values()]) for tag in tags]
    room = WIDTH - LABEL - 50
    parts, y = [], 4
    for name, scores in groups:
        height = len(scores) * (BAR + BAR_GAP) - BAR_GAP
        parts.append(_text(LABEL - 8, y + height / 2 + 4, _cut(name, 15), "end", "strong" if name == "all" else ""))
        for position, score in enumerate(scores):
            top = y + position * (BAR + BAR_GAP)
            width = max(score.share * room, 1)
            parts.append(f'<rect class="track" x="{LABEL}" y="{top}" width="{room}" height="{BAR}" rx="2"/>')
            place = f'x="{LABEL}" y="{top}" width="{width:.1f}" height="{BAR}" rx="2"'
            parts.append(f'<rect class="fill {colour(position)}" {place}/>')
            parts.append(_text(LABEL + room + 6, top + BAR - 2, f"{score.passed}/{score.total}", "start", "value"))
        y += height + GROUP_GAP
    told = "; ".join(f"{route}: {each.score.passed} of {each.score.total}" for route, each in numbers.items())
    return _svg(y, f"Share of passed scenarios by tag. {told}.", parts)


def latencies(numbers: Mapping[str, Figures]) -> str:
    """For each route the share of turns that were done after so many seconds (logarithmic); dots are p50 and p95."""
    told = [f"{route}: p50 {each.p50_s:.2f} s, p95 {each.p95_s:.2f} s" for route, each in numbers.items()]
    times = {route: each.latencies_s for route, each in numbers.items()}
    return cumulative(times, f"Latency of turns. {'; '.join(told)}.", ("seconds", "s"), ("turn", "turns"))


def cumulative(times: Mapping[str, Sequence[float]], told: str, unit: tuple[str, str], what: tuple[str, str]) -> str:
    """For each series (ascending) the share that is no longer than so much (logarithmic); dots are p50 and p95.

    `told` is for who cannot see it; `unit` is its name and its sign, `what` was timed: one and many.
    """
    every = [max(value, 0.001) for values in times.values() for value in values] or [1.0]
    low, high = 10.0 ** math.floor(math.log10(min(every))), nice(max(every))
    if high <= low:
        high = low * 10

    def along(value: float) -> float:
        return math.log(max(value, low) / low) / math.log(high / low)

    decades = [low * 10**n for n in range(1 + round(math.log10(high / low)))]
    ticks = {along(value): f"{value:g}" for value in (*decades, high) if value <= high}
    parts = _axes(ticks, f"{unit[0]} a {what[0]}", f"share of {what[1]}")
    for position, (name, values) in enumerate(times.items()):
        points, before = [(0.0, 0.0)], 0.0
        for number in sorted({math.ceil(len(values) * n / STEPS) for n in range(1, STEPS + 1)} - {0}):
            x, share = along(values[number - 1]), number / len(values)
            points += [(x, before), (x, share)]
            before = share
        points += [(1.0, 1.0)] if values else []
        parts.append(_line(points, position))
        for percent in (50, 95) if values else ():
            value = percentile(values, percent)
            label = f"{name}: p{percent} {value:.2f} {unit[1]}"
            parts.append(_dot(along(value), percent / 100, position, label, 3.5))
    return _svg(PLOT_HEIGHT, told, parts)


def recall_by_depth(recalls: Mapping[str, Mapping[int, float]]) -> str:
    """For each mode of search the recall among the first so many documents, which are the same depths for all."""
    depths = list(next(iter(recalls.values()), {}))
    last = max(depths, default=1)
    parts = _axes({_deep(depth, last): str(depth) for depth in depths}, "first documents", "recall")
    told = []
    for position, (mode, by_depth) in enumerate(recalls.items()):
        places = [(_deep(depth, last), value) for depth, value in by_depth.items()]
        parts.append(_line(places, position))
        for (x, y), (depth, value) in zip(places, by_depth.items(), strict=True):
            parts.append(_dot(x, y, position, f"{mode}: recall at {depth} {value:.3f}", 3.5))
        told.append(f"{mode}: " + ", ".join(f"{value:.3f} at {depth}" for depth, value in by_depth.items()))
    return _svg(PLOT_HEIGHT, f"Recall. {'; '.join(told)}.", parts)


def distribution(scores: Mapping[str, Sequence[float]]) -> str:
    """For each series of scores in 0 to 1 the share that lies in each twentieth of that range."""
    parts = _axes({n / 4: f"{n / 4:g}" for n in range(5)}, "score of the best passage", "share of questions")
    told = []
    for position, (name, values) in enumerate(scores.items()):
        counts = [0] * BINS
        for value in values:
            counts[min(int(value * BINS), BINS - 1)] += 1
        shares = [count / max(len(values), 1) for count in counts]
        points = [(x, share) for n, share in enumerate(shares) for x in (n / BINS, (n + 1) / BINS)]
        parts.append(_line([(0.0, 0.0), *points, (1.0, 0.0)], position))
        middle = percentile(sorted(values), 50)
        told.append(f"{name}: {len(values)} questions, median {middle:.2f}")
    return _svg(PLOT_HEIGHT, f"Scores. {'; '.join(told)}.", parts)


def cost_against_score(numbers: Mapping[str, Figures]) -> str:
    """A dot a route: what the run cost to the right, the share that passed upwards."""
    top = nice(max((each.cost_usd for each in numbers.values()), default=0.0))
    parts = _axes({0.0: "0", 0.5: f"${top / 2:g}", 1.0: f"${top:g}"}, "cost of the run", "passed")
    places = [(each.cost_usd / top, each.score.share) for each in numbers.values()]
    told: list[str] = []
    taken: list[float] = []
    for position, (route, each) in enumerate(numbers.items()):
        across, up = places[position]
        label = f"{route}: ${each.cost_usd:.4f}, {each.score.share:.0%} passed"
        # What lies under a later dot shows as a ring around it.
        covered = sum(abs(across - x) + abs(up - y) < 0.02 for x, y in places[position + 1 :])
        parts.append(_dot(across, up, position, label, 5 + 3 * covered))
        anchor, away = ("end", -14) if across > 0.6 else ("start", 14)
        parts.append(_text(_x(across) + away, _free(_y(up) + 4, taken), _cut(route, 24), anchor, "value"))
        told.append(label)
    return _svg(PLOT_HEIGHT, f"Cost against score. {'; '.join(told)}.", parts)


def nice(value: float) -> float:
    """A round number that is not below this one: 1, 2 or 5 times a power of ten; 1 for nothing."""
    if value <= 0:
        return 1.0
    step = 1e-9
    while True:
        for factor in (1, 2, 5):
            if step * factor >= value * (1 - 1e-9):
                return float(f"{step * factor:.6g}")
        step *= 10


def _free(y: float, taken: list[float]) -> float:
    """The height of a label that covers no other one: towards the middle, since the axes are full."""
    while any(abs(y - other) < 14 for other in taken):
        y += 14 if y < PLOT_HEIGHT / 2 else -14
    taken.append(y)
    return y


def _axes(ticks: Mapping[float, str], across: str, upwards: str) -> list[str]:
    lines = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{_y(share):.1f}" y2="{_y(share):.1f}"/>'
        for share in (0.0, 0.25, 0.5, 0.75, 1.0)
    )
    return [
        lines,
        *(_text(LEFT - 6, _y(share) + 4, f"{share:.0%}", "end", "value") for share in (0.0, 0.5, 1.0)),
        *(_text(_x(x), _y(0) + 16, name, "end" if x > 0.9 else "middle", "value") for x, name in ticks.items()),
        _text((LEFT + WIDTH - RIGHT) / 2, _y(0) + 32, across, "middle", "value"),
        _text(LEFT, 11, upwards, "start", "value"),
    ]


def _x(share: float) -> float:
    return LEFT + INSET + min(max(share, 0.0), 1.0) * (WIDTH - LEFT - RIGHT - 2 * INSET)


def _y(share: float) -> float:
    return PLOT_HEIGHT - 40 - min(max(share, 0.0), 1.0) * (PLOT_HEIGHT - 66)


def _dot(x: float, y: float, position: int, label: str, radius: float) -> str:
    return (
        f'<circle class="dot {colour(position)}" cx="{_x(x):.1f}" cy="{_y(y):.1f}" r="{radius}">'
        f"<title>{escape(label)}</title></circle>"
    )


def _line(points: Sequence[tuple[float, float]], position: int) -> str:
    places = " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in points)
    return f'<polyline class="line {colour(position)}" points="{places}"/>'


def _deep(depth: int, last: int) -> float:
    return (depth - 1) / max(last - 1, 1)


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(height: float, label: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(label)}">' + "".join(parts) + "</svg>"
    )


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
