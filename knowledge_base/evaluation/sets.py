"""Questions with known answers, and the documents they are asked of: the shipped set, and sets in files.

The forms are those of BEIR, one JSON object a line, with a few more names for the same fields: documents
`{"_id", "title", "text"}`, questions `{"_id", "text"}`, judgements `{"query_id", "doc_id", "score"}` or a TSV
`query-id corpus-id score`. A question with `"answerable": false` is right when nothing is found.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from knowledge_base.errors import KnowledgeError

SHIPPED = Path(__file__).parent / "shipped"
CONTENT = Path(__file__).parents[1] / "content"
ID = ("_id", "id")
DOCUMENT = ("corpus-id", "corpus_id", "doc_id", "docid", "document_id")
QUESTION = ("query-id", "query_id", "qid", "question_id")
GRADE = ("score", "relevance", "grade")
TEXT = ("text", "body", "content", "contents")
ASKED = ("text", "query", "question")
MAX_ID = 512  # characters


class BadSet(KnowledgeError):
    """A set cannot be read: the message names the file, the line and the field."""

    code = "bad_set"


@dataclass(frozen=True, slots=True)
class Record:
    """A document of a set."""

    doc_id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and which documents answer it: grades by id, above 0 is relevant.

    `grades` is empty for one that nothing answers (`answerable` is false) or that nobody judged.
    """

    query_id: str
    text: str
    grades: Mapping[str, float]
    answerable: bool = True

    @property
    def is_judged(self) -> bool:
        """Whether it is known what is right."""
        return not self.answerable or any(grade > 0 for grade in self.grades.values())


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """`documents` is a JSONL file, or a folder of documents as they are loaded elsewhere."""

    name: str
    documents: Path
    questions: tuple[Question, ...]
    notes: tuple[str, ...] = ()  # what was odd and is not counted

    @property
    def judged(self) -> tuple[Question, ...]:
        """Those that are asked."""
        return tuple(each for each in self.questions if each.is_judged)


def shipped() -> EvaluationSet:
    """Three questions to each core document, and five that none answers."""
    questions, notes = read_questions(SHIPPED / "queries.jsonl", SHIPPED / "qrels.jsonl")
    return EvaluationSet("shipped", CONTENT, questions, notes)


def read_set(documents: Path, queries: Path, qrels: Path) -> EvaluationSet:
    """A set of these files; the documents are read when they are loaded. `BadSet`."""
    if not documents.exists():
        raise BadSet(f"{documents}: there is no such file or folder of documents")
    questions, notes = read_questions(queries, qrels)
    return EvaluationSet(documents.stem if documents.is_file() else documents.name, documents, questions, notes)


def find_set(folder: Path) -> EvaluationSet:
    """A folder as BEIR has them: corpus.jsonl, queries.jsonl and qrels.tsv, qrels.jsonl or qrels/test.tsv."""
    names = {
        "documents": ("corpus.jsonl", "documents.jsonl"),
        "questions": ("queries.jsonl", "questions.jsonl"),
        "judgements": ("qrels.tsv", "qrels.jsonl", "qrels/test.tsv", "qrels/dev.tsv"),
    }
    found = []
    for what, candidates in names.items():
        there = next((folder / name for name in candidates if (folder / name).is_file()), None)
        if there is None:
            raise BadSet(f"{folder}: holds no {what}; looked for {', '.join(candidates)}")
        found.append(there)
    questions, notes = read_questions(found[1], found[2])
    return EvaluationSet(folder.resolve().name, found[0], questions, notes)


def read_records(path: Path) -> Iterator[Record]:
    """Documents of a JSONL file, one at a time; `BadSet` for a bad line and for an id that comes twice."""
    seen: set[str] = set()
    for place, row in _rows(path):
        doc_id = _text(row, (*ID, *DOCUMENT), place, longest=MAX_ID)
        if doc_id in seen:
            raise BadSet(f"{place}: `{doc_id}` is the id of an earlier document, too")
        seen.add(doc_id)
        title = _text(row, ("title",), place, default="")
        text = _text(row, TEXT, place, default="" if title or any(row.get(name) == "" for name in TEXT) else None)
        if text.strip() or title.strip():
            yield Record(doc_id, title, text if text.strip() else title)


def read_questions(queries: Path, qrels: Path) -> tuple[tuple[Question, ...], tuple[str, ...]]:
    """Questions with their judgements, and what is odd about them. `BadSet`."""
    grades = read_judgements(qrels)
    questions: dict[str, Question] = {}
    for place, row in _rows(queries):
        name = _text(row, (*ID, *QUESTION), place)
        if name in questions:
            raise BadSet(f"{place}: `{name}` is the id of an earlier question, too")
        answerable = row.get("answerable", True)
        if not isinstance(answerable, bool):
            raise BadSet(f"{place}, field `answerable`: must be true or false")
        if not answerable and grades.get(name):
            raise BadSet(f"{place}, field `answerable`: is false, but {qrels.name} has documents for `{name}`")
        questions[name] = Question(name, _text(row, ASKED, place), grades.get(name, {}), answerable)
    if not any(each.is_judged for each in questions.values()):
        raise BadSet(f"{qrels}: has no relevant document for any question of {queries}")
    return tuple(questions.values()), _odd(questions, grades)


def read_judgements(path: Path) -> dict[str, dict[str, float]]:
    """Grades by question and document, of a TSV (with or without a head) or a JSONL file. `BadSet`."""
    grades: dict[str, dict[str, float]] = {}
    for question, doc_id, grade, place in _judgements_tsv(path) if path.suffix == ".tsv" else _judgements_json(path):
        if not math.isfinite(grade):
            raise BadSet(f"{place}, field `score`: must be a number")
        grades.setdefault(question, {})[doc_id] = grade
    return grades


def _odd(questions: Mapping[str, Question], grades: Mapping[str, Any]) -> tuple[str, ...]:
    unjudged = sum(not each.is_judged for each in questions.values())
    unknown = len(grades.keys() - questions.keys())
    notes = []
    if unjudged:
        notes.append(f'{unjudged} questions have no relevant document and are not asked; "answerable": false asks them')
    if unknown:
        notes.append(f"judgements of {unknown} questions that are not in the file of questions are left out")
    return tuple(notes)


def _judgements_json(path: Path) -> Iterator[tuple[str, str, float, str]]:
    for place, row in _rows(path):
        grade = next((row[name] for name in GRADE if name in row), 1)
        if isinstance(grade, bool) or not isinstance(grade, int | float):
            raise BadSet(f"{place}, field `score`: must be a number, not {grade!r}")
        yield _text(row, QUESTION, place), _text(row, DOCUMENT, place), float(grade), place


def _judgements_tsv(path: Path) -> Iterator[tuple[str, str, float, str]]:
    for number, line in _lines(path):
        place = f"{path}, line {number}"
        cells = _decoded(line, place).strip().split("\t")
        if len(cells) == 4:  # as trec_eval has them: query 0 document grade
            cells.pop(1)
        if len(cells) != 3:
            raise BadSet(f"{place}: has {len(cells)} cells; they are query-id, corpus-id and score, with tabs between")
        try:
            grade = float(cells[2])
        except ValueError:
            if number == 1:
                continue
            raise BadSet(f"{place}, field `score`: must be a number, not {cells[2]!r}") from None
        yield cells[0], cells[1], grade, place


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The place for messages and the object of each line."""
    for number, line in _lines(path):
        place = f"{path}, line {number}"
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise BadSet(f"{place}: is no JSON ({error})") from None
        if not isinstance(row, dict):
            raise BadSet(f"{place}: must be a JSON object")
        yield place, row


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines with something in them, numbered from 1."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                if text.strip():
                    yield number, text
    except OSError as error:
        raise BadSet(f"{path}: cannot be read: {error.strerror}") from None


def _text(
    row: Mapping[str, Any], names: tuple[str, ...], place: str, default: str | None = None, longest: int | None = None
) -> str:
    """The first of these fields, as text; ids may be numbers. `default` stands for a field that is absent or null."""
    name = next((each for each in names if row.get(each) is not None), None)
    value = default if name is None else row[name]
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if value is None:
        raise BadSet(f"{place}: lacks the field `{names[0]}` (or {', '.join(names[1:])})")
    if not isinstance(value, str):
        raise BadSet(f"{place}, field `{name}`: must be text, not {type(value).__name__}")
    if default is None and not value.strip():
        raise BadSet(f"{place}, field `{name}`: is empty")
    if longest is not None and len(value) > longest:
        raise BadSet(f"{place}, field `{name}`: is longer than {longest} characters")
    return value.replace("\x00", "\N{REPLACEMENT CHARACTER}")


def _decoded(line: bytes, place: str) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        raise BadSet(f"{place}: is not UTF-8") from None
