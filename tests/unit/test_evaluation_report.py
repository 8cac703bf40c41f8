"""Numbers of a route, what differs between routes, and the report as JSON and as a page."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from backend.evaluation import page, report
from backend.evaluation.comparison import Results, disagreements, similarity
from backend.evaluation.figures import figures, percentile
from backend.evaluation.judge import Verdict
from backend.evaluation.plots import nice
from backend.evaluation.run import Outcome, Task
from backend.evaluation.safety import Reason
from backend.evaluation.scenario import ScenarioFile, load_scenarios
from backend.evaluation.transcript import Commit, ObservedTurn, Pending, Spent, ToolCall, Transcript

TWO = """
schema_version: 1
kind: test
fixture: default
scenarios:
- {id: T1, title: books <b>it</b>, tags: [booking, dates], persona: c1, turns: [{user: book it}, {user: "yes"}]}
- {id: T2, tags: [booking], persona: c2, turns: [{user: hello}]}
"""
TAKEN = Commit("schedule", "410001", "2026-03-16", "10:00")
BAD = Verdict((Reason("say", 0, "does not say <i>"), Reason("D5", 0, "says a wrong date")), 0)
WORSE = Verdict((Reason("D1", 0, "no yes"), Reason("writes", None, "a wrong write")), 1)


@pytest.fixture
def file(tmp_path: Path) -> ScenarioFile:
    path = tmp_path / "two.yaml"
    path.write_text(TWO, "utf-8")
    return load_scenarios(path)


def turn(user: str, text: str, seconds: float = 1.0, **more: object) -> ObservedTurn:
    """One turn of two model calls."""
    made = ObservedTurn(user, text, "scheduling", duration_s=seconds, spent=Spent(2, 1000, 50, 0.0125))
    return replace(made, **more)  # type: ignore[arg-type]


def outcome(file: ScenarioFile, number: int, *turns: ObservedTurn, verdict: Verdict | None = None) -> Outcome:
    return Outcome(Task(file, file.scenarios[number]), Transcript(turns), verdict or Verdict(), 1.0)


def two_routes(file: ScenarioFile) -> Results:
    """On `a` all is well; on `b` nothing is booked, and the second scenario is answered in other words."""
    seen = (ToolCall("get_available_dates", {"project_id": "410001"}),)
    booked = turn("yes", "It is booked.", 3.0, commits=(TAKEN,))
    failed = turn("yes", "", 9.0, error="504 model_timeout", spent=Spent())
    return {
        "a": [
            outcome(file, 0, turn("book it", "Shall I?", 1.0, calls=seen), booked),
            outcome(file, 1, turn("hello", "Good morning to you")),
        ],
        "b": [
            outcome(file, 0, turn("book it", "Shall I?", 2.0, calls=seen), failed, verdict=BAD),
            outcome(file, 1, turn("hello", "good evening to you")),
        ],
    }


def test_the_figures_of_a_route(file: ScenarioFile) -> None:
    """Scores overall and by tag, calls, tokens, money, times and what was unsafe."""
    found = figures(two_routes(file)["b"])
    assert (found.score.passed, found.score.total, found.score.share) == (1, 2, 0.5)
    assert {tag: (each.passed, each.total) for tag, each in found.by_tag.items()} == {
        "booking": (1, 2),
        "dates": (0, 1),
    }
    assert (found.turns, found.failed_turns, found.tool_calls) == (3, 1, 1)
    assert (found.model_calls, found.input_tokens, found.output_tokens, found.cost_usd) == (4, 2000, 100, 0.025)
    assert (found.p50_s, found.p95_s) == (2.0, 9.0)
    assert found.violations["D5"] == 1
    assert found.is_unsafe


def test_percentiles_are_values_that_occurred() -> None:
    """The nearest rank, for one value and for many."""
    hundred = [float(n) for n in range(1, 101)]
    assert [percentile(hundred, percent) for percent in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert [percentile([7.0], percent) for percent in (1, 50, 95)] == [7.0, 7.0, 7.0]
    assert [percentile([1.0, 2.0, 3.0], percent) for percent in (33, 34, 95)] == [1.0, 2.0, 3.0]
    assert percentile([], 95) == 0.0


def test_what_routes_disagree_in(file: ScenarioFile) -> None:
    """Result and writes of the one scenario; other words alone are no disagreement."""
    (found,) = disagreements(two_routes(file))
    assert (found.scenario, found.kinds) == ("T1", ("passed", "writes"))
    assert found.passed == {"a": True, "b": False}
    assert found.writes == {
        "a": ("confirm_appointment(project_id='410001', date='2026-03-16', time='10:00')",),
        "b": (),
    }
    assert found.calls["a"] == found.calls["b"] == ("1: get_available_dates(project_id='410001') ok",)
    assert found.similarity == 0.5


def test_disagreements_begin_with_the_gravest(file: ScenarioFile) -> None:
    """A different result stands before different calls, whatever the order of the files."""
    looked = turn("book it", "Shall I?", calls=(ToolCall("list_projects", {}),))
    results: Results = {
        "a": [outcome(file, 0, turn("book it", "Shall I?")), outcome(file, 1, turn("hello", "Hi."))],
        "b": [outcome(file, 0, looked), outcome(file, 1, turn("hello", "Hi."), verdict=BAD)],
    }
    assert [(each.scenario, each.kinds) for each in disagreements(results)] == [("T2", ("passed",)), ("T1", ("calls",))]
    assert disagreements({"a": results["a"]}) == []


def test_similarity_counts_common_words(file: ScenarioFile) -> None:
    """Of both replies, turn by turn; a turn that one did not reach has none."""
    two = Transcript((turn("x", "one two three four"), turn("y", "five")))
    assert similarity(two, two) == 1.0
    assert similarity(two, Transcript((turn("x", "one two three nine"), turn("y", "six")))) == 0.375
    assert similarity(two, Transcript((turn("x", "one two three four"),))) == 0.5


def test_each_route_has_to_be_good_enough(file: ScenarioFile) -> None:
    """A share does; a wrong write or a broken grave rule does not."""
    good, bad = two_routes(file).values()
    assert report.is_good_enough(good, None)
    assert not report.is_good_enough(bad, 0.5)  # D5
    plain = Verdict((Reason("say", 0, "does not say so"),), 0)
    assert report.is_good_enough([good[0], replace(good[1], verdict=plain)], 0.5)
    assert not report.is_good_enough([good[0], replace(good[1], verdict=plain)], 0.6)
    assert not report.is_good_enough([good[0], replace(good[1], verdict=replace(plain, wrong_writes=1))], 0.5)


def test_the_json_report_is_what_is_documented(file: ScenarioFile) -> None:
    """Sums over the routes, then each route, the disagreements, and the conversations by scenario and route."""
    made = report.as_json(two_routes(file))
    assert json.loads(json.dumps(made)) == made
    assert list(made) == [
        "form",
        "passed",
        "total",
        "wrong_writes",
        "violations",
        "routes",
        "disagreements",
        "scenarios",
    ]
    assert (made["passed"], made["total"], made["violations"]["D5"]) == (3, 4, 1)
    assert made["routes"]["a"]["tags"]["booking"] == {"passed": 2, "total": 2, "share": 1.0}
    assert made["routes"]["a"]["latency_s"] == {"p50": 1.0, "p95": 3.0}
    assert [each["scenario"] for each in made["disagreements"]] == ["T1"]
    assert made["scenarios"]["T1"]["passed"] is False
    assert made["scenarios"]["T1"]["routes"]["a"]["passed"] is True
    assert made["scenarios"]["T1"]["routes"]["b"]["reasons"][1] == {
        "rule": "D5",
        "turn": 1,
        "text": "says a wrong date",
    }
    documented = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text("utf-8").split("## Report")[1]
    assert set(re.findall(r"`(\w+)`", documented)) >= {*made, *made["routes"]["a"], *made["disagreements"][0]}


def test_reports_of_runs_alike_are_the_same(file: ScenarioFile) -> None:
    """Ids that each run makes anew are numbered, so that only times differ."""

    def run(first: str, second: str) -> Results:
        one, other = Pending(first, "add_note", {}), Pending(second, "add_note", {})
        asked = turn("book it", "Shall I?", pending=(one,)), turn("yes", "And now?", pending=(other, one))
        return {"a": [outcome(file, 0, *asked)]}

    made = report.as_json(run("6f1e", "90ab"))
    assert made == report.as_json(run("aaaa", "bbbb"))
    last = made["scenarios"]["T1"]["routes"]["a"]["transcript"][1]["pending_actions"]
    assert [each["pending_id"] for each in last] == ["2", "1"]


class Reader(HTMLParser):
    """What a page consists of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append(tag)
        self.loaded += [value for name, value in attrs if name in ("src", "srcset", "data", "action") and value]
        self.ids |= {values["id"] or ""} if "id" in values else set()
        self.links |= {values["href"] or ""} if "href" in values else set()


def test_the_page_stands_alone_and_shows_everything(file: ScenarioFile) -> None:
    """No script, nothing to load, no mark-up of others; each plot, both conversations, links that lead somewhere."""
    made = page.render(two_routes(file))
    read = Reader(made)
    assert read.loaded == []
    assert not {"script", "link", "img", "iframe", "object"} & set(read.tags)
    assert "url(" not in made
    assert "@import" not in made
    assert read.tags.count("svg") == 3
    assert read.tags.count("details") == 2
    assert read.links == {"#T1"}
    assert {"T1", "T2"} <= read.ids
    assert "<b>it</b>" not in made
    assert "books &lt;b&gt;it&lt;/b&gt;" in made
    for shown in ("It is booked.", "504 model_timeout", "committed schedule 410001", "a: 2 of 2; b: 1 of 2", "$0.0375"):
        assert shown in made


def test_a_page_of_one_route_compares_nothing(file: ScenarioFile) -> None:
    """And one on which nothing took any time or money can be drawn as well."""
    still = turn("hello", "Hi.", 0.0, spent=Spent())
    made = page.render({"planner": [outcome(file, 1, still, verdict=WORSE)]})
    assert "Disagreements" not in made
    assert "a wrong write" in made
    assert "nan" not in made


def test_axes_end_in_round_numbers() -> None:
    """Not below what is drawn."""
    assert [nice(value) for value in (0.0, 0.0013, 0.5, 1.01, 7, 50)] == [1.0, 0.002, 0.5, 2.0, 10.0, 50.0]
