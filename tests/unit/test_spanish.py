"""The Spanish wording: whole, true to the English one in what it may mention, and told apart from English text."""

from __future__ import annotations

import re
import time
from datetime import date
from typing import Any

import pytest
from jinja2 import ChainableUndefined, Template, meta

from agent.dates import DateMention, find_dates, find_times
from agent.definition import load_definition
from agent.wording import language_of

DEFINITION = load_definition()
SPANISH = DEFINITION.translations["es"]
WORDING = DEFINITION.wordings["es"]
TODAY = date(2026, 3, 11)
MARKERS = {"es": re.compile(SPANISH.markers, re.IGNORECASE)}
PROJECT = {
    "order_number": "SO-26-1002_1",
    "category": "Windows",
    "type": "Installation",
    "status": "Scheduled",
    "status_group": "scheduled",
    "address": "14 Elm St",
    "link": "https://portal.example/p/410002",
}
APPOINTMENT = {"date": "2026-03-18", "start": "1:00 PM", "end": None, "technician": None}


def templates() -> list[tuple[str, str, str]]:
    """(key, Spanish, English) of every template."""
    english, spanish = DEFINITION.file, SPANISH
    rows = [(key, text, DEFINITION.planner["answers"][key]) for key, text in spanish.answers.items()]
    rows += [(key, text, english.phrases[key]) for key, text in spanish.phrases.items()]
    for tool, gated in spanish.gated.items():
        own = english.gated[tool]
        pairs = ((gated.restate, own.restate), (gated.question, own.question), (gated.done, own.done))
        rows += [(tool, text, original) for text, original in pairs]
    return rows


def mentioned(text: str) -> set[str]:
    """Names that a template takes from outside."""
    return meta.find_undeclared_variables(WORDING.environment.parse(text))


def answer(key: str, **facts: Any) -> str:
    """A planner's answer in Spanish."""
    template: Template = WORDING.answers(ChainableUndefined)[key]
    return template.render(**facts).strip()


def claimed(sentence: str) -> set[str]:
    """Tools whose Spanish claim patterns find something."""
    return {
        tool for tool, patterns in SPANISH.claims.items() for p in patterns if re.search(p, sentence, re.IGNORECASE)
    }


def test_no_key_is_missing_and_none_is_superfluous() -> None:
    """Every sentence that English has, and nothing that nobody would say."""
    assert set(SPANISH.answers) == set(DEFINITION.planner["answers"])
    assert set(SPANISH.phrases) == set(DEFINITION.file.phrases)
    assert set(SPANISH.gated) == set(DEFINITION.file.gated)
    assert set(SPANISH.claims) == set(DEFINITION.file.gated) | set(DEFINITION.file.write_claims)


@pytest.mark.parametrize(("key", "spanish", "english"), templates())
def test_templates_mention_only_what_the_english_ones_do(key: str, spanish: str, english: str) -> None:
    """Facts that English does not use may not be there."""
    assert mentioned(spanish) <= mentioned(english), key


@pytest.mark.parametrize(("key", "spanish", "english"), templates())
def test_questions_are_paired_and_not_more_than_in_english(key: str, spanish: str, english: str) -> None:
    """Each question opens and closes, and templates that do not ask in English do not ask in Spanish."""
    assert spanish.count("¿") == spanish.count("?")
    assert spanish.count("¡") == spanish.count("!") - spanish.count("!=")
    if key != "error":  # asks in English through the tool's own words
        assert spanish.count("¿") <= english.count("?")


@pytest.mark.parametrize(
    "text",
    [
        "hola",
        "Hola! nomas kiero saber si ya tengo fecha para lo del piso",
        "hola, quiero una cita para la instalación del piso",
        "el lunes 16 a las 10 de la mañana",
        "sí, por favor",
        "si porfa",
        "sí",
        "q tal, a q hora viene el del techo mañana",
        "y lo puedo cancelar?",
        "¿y la alfombra cuándo la terminaron?",
        "Buenos días, ¿todavía tengo algún trabajo pendiente con ustedes?",
        "buenas, ¿a qué hora abren mañana? y también necesito cancelar la instalación de las canaletas",
        "sí, cancélala",
        "cancelala por favor",
        "ese día no puedo. ¿se puede cambiar al jueves 19 a la 1 de la tarde?",
        "cuando vienen a instalar mis ventanas",
        "necesito mover mi cita",
        "quisiera reprogramar la visita",
        "muéstreme mis proyectos",
        "que citas tengo",
        "agregue una nota: hay un perro en el patio",
        'agregue una nota: "the dog is friendly and the gate is open"',
        "gracias",
        "muchas gracias, adios",
        "va a llover el viernes",
        "como esta el clima para ese dia",
        "quien viene a mi casa",
        "hay algo el miercoles",
        "la primera",
        "el jueves por la tarde",
        "a las 10",
        "cuanto cuesta",
        "quiero hablar con una persona",
        "buenas tardes",
        "mejor el martes",
        "tienen otra fecha disponible",
        "en que estado esta mi pedido SO-26-1002_1",
        "no puedo ese dia, tengo que trabajar",
        "¿Quién es el técnico?",
        "otro día por favor",
        "para el 20 de marzo",
        "estan abiertos hoy",
    ],
)
def test_spanish_is_recognized(text: str) -> None:
    """With and without accents, short and long."""
    assert language_of([text], MARKERS) == "es"


@pytest.mark.parametrize(
    "text",
    [
        "no",
        "yes",
        "ok",
        "si",
        "no thanks",
        "hello",
        "Hola! Can you tell me when you come?",
        "gracias, that works",
        "thanks a lot, adios",
        "let's do it mañana, ok?",
        "Show me my projects",
        "as soon as possible",
        "my son is home then",
        "call me once they come",
        "don't let the line die",
        "a note for the crew",
        "come on the 16th",
        "book the flooring for Monday 10 am",
        "the first one",
        "2",
        "10 am",
        "Monday, March 16",
        "SO-26-1002_1",
        "so is it booked or not?",
        "Is the La Jolla office open on Saturday?",
        "I live at 120 El Camino Real",
        "14 Las Palmas Dr",
        "the house on Via del Sol",
        "my name is José Muñoz, move my visit please",
        "please add a note: por favor toque el timbre",
        'add this note: "el perro no muerde, gracias"',
        "tell the crew: cuidado con el perro",
        "we ordered jalapeño pizza for the team",
        "meet me at the café next door",
        "Los Angeles store",
        "San Jose location",
        "what's the weather on Friday",
        "can you push it to next week?",
        "i can't make it",
        "cancel it",
        "Cancel my gutter installation because we're moving",
        "who is coming?",
        "how much does it cost",
        "I want to talk to a person",
        "are you a bot?",
        "any later dates?",
        "no, the other one",
        "mornings only",
        "me too",
        "do it",
        "perfect, thank you",
        "bye",
        "what can you do for me",
        "is Dale still my technician?",
        "Deck repair, waiting for permit?",
        "change my address to 8 Mesa Verde Ct",
        "hay bales block the driveway, add a note",
        "para-legal services? no",
        "the color is verde",
        "el",
        "windows monday 10 am",
        "visa or cash",
        "pan and era",
        "my casa is your casa",
        "Can I speak with Ms. de la Cruz?",
    ],
)
def test_english_is_not_taken_for_spanish(text: str) -> None:
    """Names, streets, borrowed words and dictated Spanish do not turn a conversation."""
    assert language_of([text], MARKERS) == "en"


@pytest.mark.parametrize(
    ("sentence", "tool"),
    [
        ("He reservado su cita para el lunes.", "confirm_appointment"),
        ("Ya le hemos agendado la visita.", "confirm_appointment"),
        ("Su cita está confirmada.", "confirm_appointment"),
        ("¡Su visita quedó programada para el lunes 16 de marzo!", "confirm_appointment"),
        ("Perfecto, queda reservada.", "confirm_appointment"),
        ("No hay problema, he reservado su cita.", "confirm_appointment"),
        ("La cita ha sido reservada con éxito.", "confirm_appointment"),
        ("Se reservó el horario.", "confirm_appointment"),
        ("Acabo de agendar la instalación.", "confirm_appointment"),
        ("¡Listo!", "confirm_appointment"),
        ("Reservado.", "confirm_appointment"),
        ("Cita confirmada para el lunes.", "confirm_appointment"),
        ("Se ha movido su cita al jueves.", "reschedule_appointment"),
        ("Moví su visita al jueves.", "reschedule_appointment"),
        ("Su cita fue reprogramada.", "reschedule_appointment"),
        ("He cambiado la fecha.", "reschedule_appointment"),
        ("He cancelado la visita.", "cancel_appointment"),
        ("La cita ya está cancelada.", "cancel_appointment"),
        ("Revisé la agenda y cancelé las canaletas.", "cancel_appointment"),
        ("La cancelación quedó completada.", "cancel_appointment"),
        ("Se ha anulado la visita.", "cancel_appointment"),
        ("He añadido la nota.", "add_note"),
        ("La nota quedó guardada.", "add_note"),
        ("Agregué una nota para el técnico.", "add_note"),
        ("Lo he anotado.", "add_note"),
        ("He pedido que le llamen.", "request_human"),
        ("Su solicitud quedó registrada y le llamamos pronto.", "request_human"),
    ],
)
def test_claims_are_found(sentence: str, tool: str) -> None:
    """Sentences that say a write was done."""
    assert tool in claimed(sentence)


@pytest.mark.parametrize(
    "sentence",
    [
        "No se ha cambiado nada.",
        "Todavía no está reservada.",
        "Si la cita está confirmada, el técnico le llama.",
        "Cuando quede reservada, la oficina la revisa.",
        "Una vez que la cita está confirmada le avisamos.",
        "¿Quiere que la reserve?",
        "¿Está confirmada mi cita?",
        "Puedo reservar el lunes a las 10:00 AM.",
        "Su instalación está programada para el miércoles 18 de marzo.",
        "Su estado es lista para programar.",
        "No he cancelado nada.",
        "No se pudo cancelar la cita.",
        "La visita se puede mover o cancelar.",
        "¿Prefiere moverla a otro día o cancelarla?",
        "No pude guardar la nota.",
        "Las notas dicen que hay un perro.",
        "La oficina le puede llamar.",
        "Puedo registrar una solicitud para que le llamen.",
        "Nada queda reservado antes de su sí.",
        "Ese horario ya no está disponible.",
    ],
)
def test_honest_sentences_claim_nothing(sentence: str) -> None:
    """Offers, questions, conditions, negations and the standing state of a visit."""
    assert claimed(sentence) == set()


@pytest.mark.parametrize("piece", ["y ", "he ya le ", "x y ", "a, ", "no ", "la nota ", "que "])
def test_patterns_stay_quick(piece: str) -> None:
    """No text makes a pattern go over it again and again; a careless one took seconds here."""
    text = (piece * 1500)[:1500]
    began = time.process_time()
    claimed(text)
    MARKERS["es"].search(text)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(("key", "text"), [*SPANISH.answers.items(), *SPANISH.phrases.items()])
def test_only_outcomes_claim(key: str, text: str) -> None:
    """No answer but those after a write may read as the claim of one, whichever of its branches is taken."""
    bare = re.sub(r"\{%.*?%\}", "\n", text)
    pieces = re.split(r"(?<=[.!?])\s+|\n", re.sub(r"\{\{.*?\}\}", "X", bare))
    found = {tool for piece in pieces for tool in claimed(piece.strip())}
    if key.startswith("done_") or key == "request_human":
        assert found <= {key.removeprefix("done_")}
    else:
        assert found == set()


def test_outcomes_are_claims_of_their_own_tool_alone() -> None:
    """Else they would be withheld; and their days and times are read as what they are."""
    slot = {"date": "2026-03-16", "time": "1:00 PM", "address": "14 Elm St"}
    old = {"date": "2026-03-18", "time": "8:00 AM"}
    for tool in ("confirm_appointment", "reschedule_appointment", "cancel_appointment"):
        first = answer(f"done_{tool}", result={"project": PROJECT, "old": old, **slot}, args={}).split(". ")[0]
        assert claimed(first) == {tool}
    for tool, receipt in WORDING.receipts.items():
        batch = {"assignable_count": 3, "requested_count": 4, "team": "Team B"}
        said = receipt.render(project=PROJECT, note_text="Hay un perro", **slot, **batch)
        assert claimed(said.split(". ")[0]) == {tool}
        if tool not in ("add_note", "bulk_assign_teams"):
            days = [m.start.isoformat() for m in find_dates(said, TODAY) if isinstance(m, DateMention)]
            assert days == ["2026-03-16"]
            assert [m.start.isoformat("minutes") for m in find_times(said)] == ["13:00"]


def test_a_booking_is_read_back_in_spanish() -> None:
    """Words of the data are translated, order numbers and addresses are not."""
    said = WORDING.restatements["confirm_appointment"].render(
        project=PROJECT, date="2026-03-16", time="1:00 PM", address="14 Elm St"
    )
    assert said == (
        "Reservar la cita de su instalación de ventanas (pedido SO-26-1002_1) para el lunes 16 de marzo "
        "a la 1:00 PM, 14 Elm St."
    )


def test_the_reason_is_asked_for_once() -> None:
    """Not when it is known, nor when the question is put again."""
    question = WORDING.questions["cancel_appointment"]
    assert "motivo" in question.render(reason=None, again=False)
    assert "motivo" not in question.render(reason=None, again=True)
    assert "motivo" not in question.render(reason="nos mudamos", again=False)


def test_hours_and_status() -> None:
    """Weekdays, gaps and articles in facts."""
    hours = answer(
        "get_working_hours",
        result={
            "location": "Brookhaven Office",
            "open_now": False,
            "next_open": {"date": "2026-03-12", "time": "8:00 AM"},
            "days": [{"day": "Monday", "open": "8:00 AM", "close": "5:00 PM", "closed": False}],
            "closed_dates": [{"date": "2026-04-03"}],
        },
    )
    assert "abre el jueves 12 de marzo a las 8:00 AM" in hours
    assert "- Lunes: 8:00 AM a 5:00 PM" in hours
    status = answer(
        "get_appointment_status",
        result={"project": PROJECT, "scheduled": True, "status": "Tentatively Scheduled", **APPOINTMENT}
        | {"can_reschedule": True, "can_cancel": True},
    )
    assert "el miércoles 18 de marzo a la 1:00 PM (programada de forma provisional)" in status
    assert "Todavía no hay técnico asignado." in status
    assert status.endswith("la oficina todavía lo revisa. Todavía se puede mover o cancelar.")


def test_failures_tell_what_became_of_the_visit() -> None:
    """Which errors changed nothing and which gave the old slot up."""
    old = {"date": "2026-03-18", "time": "8:00 AM"}
    kept = answer("error", result={"code": "move_failed_kept", "old": old, "remaining": ["1:00 PM"]})
    assert "del miércoles 18 de marzo a las 8:00 AM sigue como estaba" in kept
    assert "1:00 PM" in kept
    assert "no hay nada reservado" in answer("error", result={"code": "move_failed_released", "old": old})
    assert answer("error", result={"code": "new_code"}) == "Disculpe, eso no funcionó en este momento."
