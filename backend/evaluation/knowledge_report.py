"""What an evaluation of a knowledge base came to: JSON, tables for the console, and one page for a browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape as html
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from backend.evaluation.figures import percentile
from backend.evaluation.page import document
from backend.evaluation.plots import colour, cumulative, distribution, recall_by_depth
from knowledge_base.evaluation.run import DEPTHS, Answer, Measured
from knowledge_base.retrieval.base import Mode

JsonObject = dict[str, Any]
FORM = 1  # of the JSON report
FOUND = 3  # documents that are shown for a question that went wrong
# What is told of a mode, and what `--fail-under` may name.
FIGURES = (*(f"recall@{k}" for k in DEPTHS), "mrr", "ndcg@10", "unanswerable")
COLUMNS = (*FIGURES, "p50", "p95")
LISTED = 200  # questions that went wrong, at most, on the page


@dataclass(frozen=True, slots=True)
class KnowledgeReport:
    """One set, measured in one or more modes; the first of `modes` is the one that the headline is about."""

    name: str
    documents: int
    chunks: int
    store: str
    model: str  # of embeddings, empty without one
    chunking: JsonObject
    load_s: float
    modes: tuple[Measured, ...]
    notes: tuple[str, ...] = ()

    @property
    def headline(self) -> Measured:
        """Hybrid, where that was measured."""
        return self.modes[0]


def figures_of(measured: Measured) -> dict[str, float]:
    """The `FIGURES` of a mode, rounded to what is told. Of no unanswerable questions all were right."""
    right = [each.is_right for each in measured.unanswerable]
    found = [*map(measured.recall, DEPTHS), measured.mrr(), measured.ndcg(), sum(right) / len(right) if right else 1.0]
    return {name: round(value, 4) for name, value in zip(FIGURES, found, strict=True)}


def as_json(report: KnowledgeReport) -> JsonObject:
    """The whole report; `docs/knowledge-base.md` describes it."""
    headline = report.headline
    return {
        "form": FORM,
        "set": report.name,
        "mode": headline.mode,
        **_mode_json(headline),
        "documents": report.documents,
        "chunks": report.chunks,
        "questions": len(headline.answers),
        "store": report.store,
        "model": report.model or None,
        "chunking": report.chunking,
        "load_s": round(report.load_s, 3),
        "notes": list(report.notes),
        "modes": {each.mode: _mode_json(each) for each in report.modes},
        "wrong": [_answer_json(each) for each in headline.wrong()],
    }


def summary(report: KnowledgeReport) -> RenderableType:
    """Figures by mode, and what they were measured with."""
    table = Table(show_edge=False, pad_edge=False)
    for name in ("", *(measured.mode for measured in report.modes)):
        table.add_column(name, justify="right" if name else "left")
    columns = [_columns_of(measured) for measured in report.modes]
    for name, *values in zip(COLUMNS, *columns, strict=True):
        table.add_row(name, *values)
    lines = [*_told(report), *(f"[yellow]{escape(note)}[/yellow]" for note in report.notes)]
    return Group(table, "", *lines)


def worst(report: KnowledgeReport, count: int) -> RenderableType:
    """The questions that went wrong in the headline's mode, with what was found and what should have been."""
    wrong = report.headline.wrong()
    if not wrong or not count:
        return Group()
    lines = [f"\n{len(wrong)} of {len(report.headline.answers)} questions went wrong ({report.headline.mode}):"]
    for each in wrong[:count]:
        lines.append(f"  [bold]{escape(each.question.query_id)}[/bold] {escape(_short(each.question.text))}")
        lines.append(f"      found {escape(_found(each))}; right: {escape(_right(each))}")
    if len(wrong) > count:
        lines.append(f"  and {len(wrong) - count} more (--worst)")
    return Group(*lines)


def render(report: KnowledgeReport) -> str:
    """The report as one page that needs nothing else."""
    body = [
        f"<h1>Evaluation of retrieval</h1><p class=soft>{'<br>'.join(html(each) for each in _told(report))}</p>",
        "".join(f"<p class='soft small'>{html(note)}</p>" for note in report.notes),
        _glance(report),
        _plots(report),
        _listed(report.headline),
    ]
    return document(f"Evaluation of retrieval: {report.name}", "".join(body))


# --- JSON -----------------------------------------------------------------------------------------------------------


def _mode_json(measured: Measured) -> JsonObject:
    return {
        **{name: value for name, value in figures_of(measured).items() if name != "unanswerable"},
        "unanswerable": {
            "questions": len(measured.unanswerable),
            "correct": sum(each.is_right for each in measured.unanswerable),
        },
        "nothing_found": sum(not each.ranking for each in measured.answerable),
        "latency_ms": {"p50": _ms(measured, 50), "p95": _ms(measured, 95)},
    }


def _answer_json(answer: Answer) -> JsonObject:
    return {
        "query_id": answer.question.query_id,
        "text": answer.question.text,
        "relevant": dict(answer.question.grades),
        "answerable": answer.question.answerable,
        "found": [
            {"doc_id": doc_id, "score": round(score, 4)}
            for doc_id, score in zip(answer.ranking, answer.scores, strict=True)
        ],
        "reason": answer.reason,
    }


# --- words ----------------------------------------------------------------------------------------------------------


def _told(report: KnowledgeReport) -> list[str]:
    rate = f", {report.chunks / report.load_s:,.0f} chunks/s" if report.load_s else ""
    return [
        f"{report.name}: {len(report.headline.answers):,} questions to {report.documents:,} documents in "
        f"{report.chunks:,} chunks",
        f"{report.store}, {report.model or 'no embedding model'}; loaded in {report.load_s:.1f} s{rate}",
    ]


def _columns_of(measured: Measured) -> list[str]:
    told = [f"{value:.3f}" for name, value in figures_of(measured).items() if name != "unanswerable"]
    of = len(measured.unanswerable)
    right = f"{sum(each.is_right for each in measured.unanswerable)}/{of}" if of else "–"
    return [*told, right, f"{_ms(measured, 50):.1f} ms", f"{_ms(measured, 95):.1f} ms"]


def _ms(measured: Measured, percent: float) -> float:
    return round(percentile(measured.ms, percent), 2)


def _found(answer: Answer) -> str:
    pairs = zip(answer.ranking[:FOUND], answer.scores[:FOUND], strict=True)
    return ", ".join(f"{doc_id} {score:.2f}" for doc_id, score in pairs) or f"nothing ({answer.reason})"


def _right(answer: Answer) -> str:
    if not answer.question.answerable:
        return "nothing"
    relevant = sorted(answer.question.grades.items(), key=lambda pair: -pair[1])[:FOUND]
    places = {doc_id: place for place, doc_id in enumerate(answer.ranking, 1)}
    return ", ".join(f"{doc_id} ({_place(places.get(doc_id))})" for doc_id, grade in relevant if grade > 0)


def _place(place: int | None) -> str:
    return f"at {place}" if place else "not found"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 100 else line[:99] + "…"


# --- the page -------------------------------------------------------------------------------------------------------


def _glance(report: KnowledgeReport) -> str:
    heads = "".join(f"<th scope=col>{html(name)}</th>" for name in COLUMNS)
    lines = "".join(
        f"<tr class='{'first' if measured is report.headline else ''}'><th scope=row>{measured.mode}</th>"
        + "".join(f"<td>{value}</td>" for value in _columns_of(measured))
        + "</tr>"
        for measured in report.modes
    )
    return (
        "<h2>At a glance</h2><div class='card wide'><table class=numbers>"
        f"<thead><tr><td></td>{heads}</tr></thead><tbody>{lines}</tbody></table></div>"
        "<p class='soft small'>recall@k: of the relevant documents, or of k if there are more, the share among the "
        "first k. unanswerable: questions that no document answers, and for which nothing was found.</p>"
    )


def _plots(report: KnowledgeReport) -> str:
    modes = {each.mode: each for each in report.modes}
    told = "; ".join(f"{name}: p50 {_ms(each, 50)} ms, p95 {_ms(each, 95)} ms" for name, each in modes.items())
    times = cumulative(
        {name: each.ms for name, each in modes.items()},
        f"Latency of searches. {told}.",
        ("milliseconds", "ms"),
        ("search", "searches"),
    )
    recalls = recall_by_depth({name: {k: each.recall(k) for k in DEPTHS} for name, each in modes.items()})
    cards = (
        f"<div class=card><h3>Recall by depth</h3>{recalls}</div><div class=card><h3>Time of a search</h3>{times}</div>"
    )
    best = _best_scores(report.headline)
    scores = (
        f"<div class=card><h3>Scores, {report.headline.mode}</h3>{_legend(list(best))}{distribution(best)}</div>"
        if len(best) > 1
        else ""
    )
    return f"<h2>Plots</h2>{_legend(list(modes))}<div class=plots>{cards}{scores}</div>"


def _best_scores(measured: Measured) -> Mapping[str, Sequence[float]]:
    """By kind of question; those for which nothing was found count as 0."""
    series = {
        "right document first": [each.best for each in measured.answerable if each.is_right],
        "another first": [each.best for each in measured.answerable if not each.is_right],
        "unanswerable": [each.best for each in measured.unanswerable],
    }
    return {name: values for name, values in series.items() if values}


def _legend(names: Sequence[str] | Sequence[Mode]) -> str:
    keys = (f"<span><i class='key {colour(n)}'></i>{html(name)}</span>" for n, name in enumerate(names))
    return f"<div class=legend>{''.join(keys)}</div>"


def _listed(measured: Measured) -> str:
    wrong = measured.wrong()
    lines = "".join(
        f"<tr><td>{html(each.question.query_id)}</td><td>{html(each.question.text)}</td><td>{html(_found(each))}</td>"
        f"<td>{html(_right(each))}</td></tr>"
        for each in wrong[:LISTED]
    )
    if not lines:
        return "<h2>Questions that went wrong</h2><p class=soft>None.</p>"
    heads = "".join(f"<th scope=col>{name}</th>" for name in ("", "question", "found", "right"))
    more = f"<p class='soft small'>and {len(wrong) - LISTED} more</p>" if len(wrong) > LISTED else ""
    return (
        f"<h2>Questions that went wrong ({measured.mode})</h2><div class='card wide'><table><thead><tr>{heads}</tr>"
        f"</thead><tbody>{lines}</tbody></table></div>{more}"
    )
