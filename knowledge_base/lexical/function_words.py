"""Words that ask rather than name: of a question they count for less.

"How long does it take if I …" is part of any question, but of few documents: in a small base such words are rare, and
BM25 would go by them. In a large one they are common and weigh next to nothing anyway. They still count for something,
because whether a text says "before" or "after", "I" or "you", can be what tells two apart. Words of these lists that
name something in another of the languages (war, hat, sin) are left out of them.
"""

from __future__ import annotations

from knowledge_base.lexical.tokens import tokens

SHARE = 0.3  # of the weight of another word as rare; measured, see docs/decisions/0016

ENGLISH = """
    a about after again all also am an and any are aren as at be because been before being between both but by can
    cannot cant could couldn d did didn didnt do does doesn doesnt doing don dont down during each for from further
    get gets give got had hadn has hasn have haven having he her here hers him his how i if im in into is isn isnt
    it its just let ll m may me might more most much must my need no nor not now of off on once only or other our
    out over own please pls re really s same shall she should so some still such t than that thats the their them
    then there theres these they this those though through to too u under until up ur us ve very want was wasn we
    were what whats when where which while who whom whos whose why will with won wont would wouldn yes yet you your
    yours
"""
GERMAN = """
    aber alle als am an auch auf aus bei beim bevor bin bis bist bitte da damit dann das dass dein deine dem den
    denn der deren des dessen dich die dies diese diesem diesen dieser dieses dir doch dort du durch ein eine einem
    einen einer eines er es etwas euch euer für gab gegen gibt hab habe haben hatte hatten hier ich ihm ihn ihnen
    ihr ihre ihrem ihren ihrer im in ist ja jede jedem jeden jeder kann kannst kein keine keinen konnte konnten
    können könnt manche mein meine meinem meinen meiner mich mir mit muss musste mussten müssen nach nicht noch nun
    nur ob oder ohne schon sehr sein seine seinem seinen seiner seit sich sie sind so solche soll sollen sollte
    sollten sonst über um und uns unser unsere unter viel viele vom von vor waren wann warum was wegen welche
    welchem welchen welcher welches wem wen wenn wer werde werden wessen wie wieso wieviel wieviele will willst wir
    wird wo wobei wodurch wofür wogegen woher wohin wollen wollte wollten womit woran worauf woraus worin worüber
    worum wovon wozu wurde wurden während zu zum zur zwischen
"""
SPANISH = """
    a al algo algún alguna algunas alguno algunos ante antes aquel aquella aquí así aún aunque cada como cómo con
    cual cuál cuales cuáles cuando cuándo cuánta cuántas cuánto cuántos de del desde donde dónde durante e el ella
    ellas ellos en entre era eran es esa esas ese eso esos esta está estaba están estas este esto estos estoy fue
    fueron ha había han hasta hay he la las le les lo los mas más me mi mis muy ni nos nosotros nuestra nuestro o
    otra otras otro otros para pero por porque puede pueden puedo qué que quien quién quiénes se según ser si sí
    sobre soy su sus también te tengo ti tiene tienen todo todos tu tus un una unas uno unos usted ustedes y ya yo
"""
_WORDS = frozenset(tokens(f"{ENGLISH} {GERMAN} {SPANISH}"))


def is_function_word(word: str) -> bool:
    """Whether a word, as `tokens` gives it, names nothing."""
    return word in _WORDS


def importance(word: str) -> float:
    """What the IDF of a question's word is taken times: 1, or less for a function word."""
    return SHARE if is_function_word(word) else 1.0
