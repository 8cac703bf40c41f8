"""Sets of questions: the shipped one, the forms that others come in, and what is said of a bad line."""

import json
from collections import Counter
from pathlib import Path

import pytest

from knowledge_base.evaluation.sets import (
    SHIPPED,
    BadSet,
    find_set,
    read_judgements,
    read_questions,
    read_records,
    shipped,
)

HERE = Path(__file__).parent


def written(path: Path, *rows: object) -> Path:
    """A file with a line for each: text as it is, everything else as JSON."""
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def test_the_shipped_set_asks_three_questions_of_each_document_and_five_of_none() -> None:
    """Grade 2 goes to the document that a question was written for; another that answers it as well has 1."""
    found = shipped()
    best = Counter(doc_id for each in found.questions for doc_id, grade in each.grades.items() if grade == 2)
    assert len(best) == 24
    assert set(best.values()) == {3}
    assert sum(not each.answerable for each in found.questions) == 5
    assert len(found.judged) == len(found.questions) == 77
    assert len({each.text for each in found.questions}) == 77
    assert found.notes == ()
    assert SHIPPED.is_relative_to(Path(__file__).parents[3] / "knowledge_base")


@pytest.mark.parametrize("name", ["further", "unseen"])
def test_there_are_more_questions_than_those_that_are_shipped(name: str) -> None:
    """Two to each document and five to none; the documents were reworded for `further`, never for `unseen`."""
    questions, notes = read_questions(HERE / name / "queries.jsonl", HERE / name / "qrels.jsonl")
    best = Counter(doc_id for each in questions for doc_id, grade in each.grades.items() if grade == 2)
    assert (len(best), set(best.values()), len(questions), notes) == (24, {2}, 53, ())
    assert not {each.text for each in questions} & {each.text for each in shipped().questions}


def test_a_folder_is_read_as_beir_has_them(tmp_path: Path) -> None:
    """corpus.jsonl, queries.jsonl and qrels/test.tsv with a head; queries of another split are not asked."""
    written(tmp_path / "corpus.jsonl", {"_id": "d1", "title": "T", "text": "one", "metadata": {}})
    written(tmp_path / "queries.jsonl", {"_id": "q1", "text": "first?"}, {"_id": "q2", "text": "of another split?"})
    written(tmp_path / "qrels" / "test.tsv", "query-id\tcorpus-id\tscore", "q1\td1\t2", "q9\td1\t1")
    found = find_set(tmp_path)
    assert found.name == tmp_path.name
    assert [(each.query_id, dict(each.grades)) for each in found.judged] == [("q1", {"d1": 2.0})]
    assert [note.split()[:2] for note in found.notes] == [["1", "questions"], ["judgements", "of"]]


def test_plain_names_and_numbers_as_ids_are_read_too(tmp_path: Path) -> None:
    """`id`, `query_id`, `doc_id`; a grade that is not told is 1; trec_eval's fourth column is not needed."""
    documents = written(tmp_path / "d.jsonl", {"id": 7, "text": "seven"}, {"doc_id": "8", "title": "eight alone"})
    assert [(each.doc_id, each.title, each.text) for each in read_records(documents)] == [
        ("7", "", "seven"),
        ("8", "eight alone", "eight alone"),
    ]
    queries = written(
        tmp_path / "q.jsonl", {"query_id": 1, "query": "which?"}, {"id": "2", "text": "who?", "answerable": False}
    )
    qrels = written(tmp_path / "r.jsonl", {"query_id": "1", "doc_id": 7})
    questions, notes = read_questions(queries, qrels)
    assert [(each.query_id, dict(each.grades), each.is_judged) for each in questions] == [
        ("1", {"7": 1.0}, True),
        ("2", {}, True),
    ]
    assert notes == ()
    assert read_judgements(written(tmp_path / "t.tsv", "1\t0\t7\t3")) == {"1": {"7": 3.0}}


def test_documents_without_a_word_are_left_out(tmp_path: Path) -> None:
    """Public sets hold some."""
    path = written(tmp_path / "d.jsonl", {"_id": "a", "title": " ", "text": ""}, {"_id": "b", "text": "x"}, "")
    assert [each.doc_id for each in read_records(path)] == ["b"]
    path = written(tmp_path / "e.jsonl", {"_id": "a", "title": "", "text": ""}, {"_id": "b", "title": "x"})
    assert [(each.doc_id, each.text) for each in read_records(path)] == [("b", "x")]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("{", "line 2: is no JSON"),
        ([1], "line 2: must be a JSON object"),
        ({"text": "x"}, "line 2: lacks the field `_id`"),
        ({"_id": ["a"], "text": "x"}, "line 2, field `_id`: must be text, not list"),
        ({"_id": "b"}, "line 2: lacks the field `text`"),
        ({"_id": "b", "text": 1.5}, "line 2, field `text`: must be text, not float"),
        ({"_id": "a", "text": "x"}, "line 2: `a` is the id of an earlier document"),
        ({"_id": "x" * 600, "text": "x"}, "line 2, field `_id`: is longer than 512"),
    ],
)
def test_a_bad_document_is_told_with_file_line_and_field(tmp_path: Path, row: object, said: str) -> None:
    """Whoever made the file finds the place."""
    path = written(tmp_path / "corpus.jsonl", {"_id": "a", "text": "fine"}, row)
    with pytest.raises(BadSet) as error:
        list(read_records(path))
    assert str(error.value).startswith(f"{path}, {said}")


@pytest.mark.parametrize(
    ("query", "judgement", "said"),
    [
        ({"_id": "q", "text": " "}, "q\td\t1", "queries.jsonl, line 1, field `text`: is empty"),
        ({"_id": "q", "text": "?", "answerable": "no"}, "q\td\t1", "field `answerable`: must be true or false"),
        ({"_id": "q", "text": "?", "answerable": False}, "q\td\t1", "is false, but qrels.tsv has documents for `q`"),
        ({"_id": "q", "text": "?"}, "q\td\tmuch", "qrels.tsv, line 2, field `score`: must be a number"),
        ({"_id": "q", "text": "?"}, "q\td\tnan", "qrels.tsv, line 2, field `score`: must be a number"),
        ({"_id": "q", "text": "?"}, "q d 1", "qrels.tsv, line 2: has 1 cells"),
        ({"_id": "q", "text": "?"}, "other\td\t1", "has no relevant document for any question"),
        ({"_id": "q", "text": "?"}, "q\td\t0", "has no relevant document for any question"),
    ],
)
def test_bad_questions_and_judgements_are_told(tmp_path: Path, query: object, judgement: str, said: str) -> None:
    """File, line and field again."""
    queries = written(tmp_path / "queries.jsonl", query)
    qrels = written(tmp_path / "qrels.tsv", "query-id\tcorpus-id\tscore", judgement)
    with pytest.raises(BadSet) as error:
        read_questions(queries, qrels)
    assert said in str(error.value)


def test_a_folder_that_lacks_a_file_is_told_which(tmp_path: Path) -> None:
    """With the names that were looked for."""
    written(tmp_path / "corpus.jsonl", {"_id": "a", "text": "x"})
    with pytest.raises(BadSet, match=r"holds no questions; looked for queries\.jsonl"):
        find_set(tmp_path)
