"""The words of dates and times, one table per language, and the lexer that turns text into symbols.

A symbol is a language-free code such as `W4` (Friday), `M3` (March), `O16` ("16th"), `NEXT` or `AT`. The grammars in
`date_mentions` and `time_mentions` are written over symbols alone, so another language is another table here:

| symbol | meaning | symbol | meaning |
|---|---|---|---|
| `W0`..`W6`, `P0`..`P6` | weekday, weekday in the plural | `N16`, `n2`, `A` | number in digits, in words, "a" |
| `M1`..`M12` | month | `O16`, `o2` | ordinal in digits, in words |
| `Y2026` | year | `DATE`, `MONTHOF` | numeric date, numeric month (`Token.value`) |
| `T` | clock time (`Token.value`) | `PART0`..`PART2` | morning, afternoon, evening |
| `ok` | filler that may follow a time or a date | `x`, `c` | any other word; one that counts things ("people") |
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from rapidfuzz.distance import OSA


@dataclass(frozen=True, slots=True)
class Clock:
    """A time of day as written: hour and minute, and how far it says which half of the day is meant."""

    hour: int
    minute: int
    meridiem: str = ""  # "am", "pm" or ""
    exact: bool = False  # 24-hour notation: no other reading


@dataclass(frozen=True, slots=True)
class NumericDate:
    """A date written in digits, not yet checked: year is None where none was written, day is None for a month."""

    year: int | None
    month: int
    day: int | None


@dataclass(frozen=True, slots=True)
class Token:
    symbol: str
    start: int
    end: int
    word: str  # folded: lower case, no accents
    value: Clock | NumericDate | int | None = None


@dataclass(frozen=True, slots=True)
class Language:
    """Vocabulary of one language; words are folded (lower case, no accents)."""

    words: Mapping[str, str]
    phrases: Mapping[str, str]
    misspelt: Mapping[str, int] = field(default_factory=dict)  # word -> largest edit distance still read as it


def word_set(text: str) -> frozenset[str]:
    """A set of words from one line."""
    return frozenset(text.split())


def _numbered(prefix: str, first: int, names: str) -> dict[str, str]:
    """`{"monday": "W0", ...}` from rows of synonyms, one row (separated by "|") per number."""
    return {word: f"{prefix}{n}" for n, row in enumerate(names.split("|"), first) for word in row.split()}


def _classes(rows: Mapping[str, str]) -> dict[str, str]:
    return {word: symbol for symbol, words in rows.items() for word in words.split()}


def _phrases(rows: Mapping[str, str]) -> dict[str, str]:
    return {phrase.strip(): symbol for symbol, phrases in rows.items() for phrase in phrases.split("|")}


ENGLISH = Language(
    words={
        **_numbered(
            "W",
            0,
            "monday mon monday's|tuesday tue tues tuesday's|wednesday wed weds wednesday's"
            "|thursday thu thur thurs thursday's|friday fri friday's|saturday sat saturday's|sunday sun sunday's",
        ),
        **_numbered("P", 0, "mondays|tuesdays|wednesdays|thursdays|fridays|saturdays|sundays"),
        **_numbered(
            "M",
            1,
            "january jan|february feb|march mar|april apr|may|june jun|july jul|august aug|september sep sept"
            "|october oct|november nov|december dec",
        ),
        **_numbered("n", 1, "one|two couple|three|four|five|six|seven|eight|nine|ten|eleven|twelve"),
        **_numbered(
            "o",
            1,
            "first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth|thirteenth|fourteenth|fifteenth"
            "|sixteenth|seventeenth|eighteenth|nineteenth|twentieth|twentyfirst|twentysecond|twentythird|twentyfourth"
            "|twentyfifth|twentysixth|twentyseventh|twentyeighth|twentyninth|thirtieth|thirtyfirst",
        ),
        **_numbered("PART", 0, "morning mornings mornin|afternoon afternoons arvo|evening evenings night nights"),
        **_classes(
            {
                "TODAY": "today todays today's 2day",
                "TONIGHT": "tonight tonite",
                "TOMORROW": "tomorrow tomorrow's tomorrows tmrw tmr tmrow tmw tomo 2morrow tomoz",
                "YESTERDAY": "yesterday yesterday's",
                "NOW": "now",
                "THIS": "this",
                "NEXT": "next nxt",
                "COMING": "coming upcoming following",
                "LAST": "last previous",
                "EVERY": "every each any",
                "REST": "rest remainder",
                "LATERIN": "later",
                "END": "end",
                "START": "start starting beginning",
                "MID": "mid middle midweek",
                "EARLY": "early",
                "LATE": "late",
                "EARLIEST": "earliest",
                "LATEST": "latest",
                "DAY": "day days day's days'",
                "WEEK": "week weeks wk wks week's weeks'",
                "WEEKEND": "weekend",
                "WEEKENDS": "weekends",
                "WEEKDAYS": "weekdays weekday workday workdays",
                "MONTH": "month months month's mth mths",
                "YEAR": "year years",
                "FORTNIGHT": "fortnight",
                "SPAN": "hour hours hr hrs minute minutes min mins",
                "FEW": "few",
                "IN": "in",
                "WITHIN": "within during over",
                "AGO": "ago",
                "FROM": "from",
                "TO": "to through thru",
                "UNTIL": "until till til by",
                "BETWEEN": "between",
                "AND": "and & n",
                "OR": "or",
                "OF": "of",
                "THE": "the",
                "ON": "on",
                "A": "a an",
                "BEFORE": "before",
                "AFTER": "after past",
                "SINCE": "since",
                "NOT": "not except excluding besides avoid never",
                "NO": "no",
                "NEG": "can't cant cannot don't dont won't wont doesn't doesnt isn't isnt couldn't not",
                "ONWARD": "onward onwards forward",
                "AT": "at @",
                "AROUND": "around about approximately roughly approx circa",
                "FOR": "for",
                "HALF": "half",
                "QUARTER": "quarter",
                "ISH": "ish",
                "SHARP": "sharp exactly",
                "OCLOCK": "o'clock oclock",
                "NOON": "noon midday noontime",
                "MIDNIGHT": "midnight",
                "LUNCH": "lunch lunchtime",
                "WORK": "work",
                "SCHOOL": "school",
                "EOD": "eod cob",
                "DO": "do make want like prefer",
                "PICK": "one ones option slot slots choice item project order job visit time times date dates number "
                "opening appointment result entry",
                "STREET": "st street ave avenue rd road ln lane dr drive ct court blvd boulevard way pl place floor "
                "terrace ter cir circle hwy grade",
                "CHANGE": "move moved moving change changing switch switching reschedule rescheduling push bump shift "
                "swap transfer",
                "c": "people persons person guys men kids bucks dollars usd cents feet ft sq miles windows doors rooms",
                "ok": "please pls plz works would is are was good fine great perfect ok okay thanks thank thx then "
                "sounds be it but so yes yeah yep sure instead ideally only would it's its that's i i'd i'll we we'd "
                "better best preferably maybe perhaps possibly free available open if can could you u have has "
                "too also sorry actually",
            }
        ),
    },
    phrases=_phrases(
        {
            "OVERMORROW": "day after tomorrow|the day after tomorrow|day after tmrw|overmorrow",
            "EREYESTERDAY": "day before yesterday|the day before yesterday",
            "UNTIL": "no later than|not later than|not after|up to|up until",
            "SINCE": "no earlier than|no sooner than|not earlier than|not sooner than|not before|not until|not till|"
            "as of|starting from|starting on|beginning on|any time from|anytime from",
            "BEFORE": "prior to|earlier than|sooner than",
            "AFTER": "later than",
            "NOT": "other than|any day but|anything but|any time but|anytime but|everything but|except for|apart from|"
            "aside from|every day but|any but|all but",
            "INSTEAD": "instead of|rather than|in place of",
            "LATER": "or later|or after|and later|and after|or afterwards|at the earliest|"
            "or thereafter|and on|and onwards|or beyond",
            "EARLIER": "or earlier|or before|or sooner|and before|at the latest",
            "SOONEST": "early as possible|early as you can|early as u can|early as they can|soon as possible",
            "FIRSTTHING": "first thing|crack of dawn",
            "EOD": "end of the day|end of day|close of business|end of the work day|later in the day|late in the day",
            "x": "good morning|good afternoon|good evening|good night|goodnight|the other day|these days|one day|"
            "some day|all day|the whole day|that day|same day|what day|which day|what time|which time|each time|"
            "last time|next time|first time|why not|may i|may we|may be|may have|might as well|one moment|one sec|"
            "one second|one more|at once|at all|at least|not only|the sun|no one|a second|"
            "sat down|night shift|night shifts|work nights|work mornings|work afternoons|work evenings|"
            "sat in|sat there|"
            "sat on|march on|march in|march up|the latest on|per day|a day|days a week|times a|hours a day",
            "WEEKEND": "week end",
            "A": "a couple of",
            "FEW": "a few",
            "OCLOCK": "o clock",
        }
    )
    | {"a couple of": "n2", "a couple": "n2", "couple of": "n2"},
    misspelt={
        **dict.fromkeys(("monday", "tuesday", "friday", "sunday", "april", "january", "august", "october"), 1),
        **dict.fromkeys(("wednesday", "thursday", "saturday", "tomorrow", "yesterday", "afternoon"), 2),
        **dict.fromkeys(("mondays", "tuesdays", "fridays", "weekend", "morning", "evening", "tonight"), 1),
        **dict.fromkeys(("february", "september", "november", "december"), 2),
    },
)

SPANISH = Language(
    words={
        **_numbered("W", 0, "lunes|martes|miercoles|jueves|viernes|sabado|domingo"),
        **_numbered("P", 5, "sabados|domingos"),
        **_numbered(
            "M",
            1,
            "enero|febrero|marzo|abril|mayo|junio|julio|agosto|septiembre setiembre|octubre|noviembre|diciembre",
        ),
        **_numbered("n", 1, "uno una|dos|tres|cuatro|cinco|seis|siete|ocho|nueve|diez"),
        **_numbered("o", 1, "primero primera|segundo segunda|tercero tercera|cuarta|quinta"),
        **_classes(
            {
                "TODAY": "hoy",
                "TOMORROW": "manana",
                "YESTERDAY": "ayer",
                "THIS": "este esta",
                "COMING": "proximo proxima siguiente",
                "LAST": "ultimo ultima pasado pasada",
                "EVERY": "cada cualquier",
                "DAY": "dia dias",
                "WEEK": "semana semanas",
                "MONTH": "mes meses",
                "YEAR": "ano anos",
                "END": "fin finales",
                "START": "principios inicio",
                "MID": "mediados",
                "IN": "en",
                "OF": "de del",
                "THE": "el la los las",
                "AND": "y e",
                "OR": "o u",
                "TO": "al",
                "UNTIL": "hasta",
                "BETWEEN": "entre",
                "FROM": "desde",
                "BEFORE": "antes",
                "AFTER": "despues",
                "NOT": "excepto menos salvo",
                "NOON": "mediodia",
                "MIDNIGHT": "medianoche",
                "AROUND": "sobre",
                "FOR": "para",
                "ok": "por favor gracias si bien perfecto vale mejor",
                "CHANGE": "cambiar mover cambia mueve",
            }
        ),
    },
    phrases=_phrases(
        {
            "OVERMORROW": "pasado manana",
            "EREYESTERDAY": "antes de ayer|anteayer|antier",
            "PART0": "por la manana|de la manana|en la manana|la manana|las mananas|por las mananas",
            "PART1": "por la tarde|de la tarde|en la tarde|la tarde|las tardes|por las tardes",
            "PART2": "por la noche|de la noche|en la noche|la noche",
            "COMING": "que viene|que entra",
            "WEEKEND": "fin de semana",
            "WEEKENDS": "fines de semana",
            "AT": "a las|a la|a eso de las|sobre las",
            "SINCE": "a partir de|a partir del|no antes de|no antes del",
            "BEFORE": "antes de|antes del",
            "AFTER": "despues de|despues del|luego de",
            "IN": "dentro de",
            "INSTEAD": "en lugar de|en lugar del|en vez de|en vez del",
            "x": "buenos dias|buenas tardes|buenas noches|de nada",
            "n11": "las once",
            "n12": "las doce",
            "HALFMORE": "y media",
            "QUARTERMORE": "y cuarto",
            "LATER": "o despues|o mas tarde|en adelante",
        }
    )
    | {"esta manana": "THIS PART0", "esta tarde": "THIS PART1", "esta noche": "TONIGHT"},
    misspelt={"miercoles": 2, "jueves": 1, "viernes": 1, "domingo": 1},
)

LANGUAGES: tuple[Language, ...] = (SPANISH, ENGLISH)  # later tables win where a word is in two

# Short forms and months that are ordinary words as well: a date only beside another word of dates.
DOUBTFUL_WEEKDAYS = frozenset({"mon", "wed", "sat", "sun"})
DOUBTFUL_MONTHS = frozenset({"may", "march", "mar"})
# Real words one slip away from a date word.
NOT_MISSPELT = frozenset(
    {"sundae", "frida", "mourning", "moaning", "evensong", "weekends", "everyday", "someday", "weekday"}
)

_ORDINAL_TENS = {"twenty": 20, "thirty": 30}


def fold(text: str) -> str:
    """Lower case, straight apostrophes, no accents. Positions may shift: fold words, not texts with spans."""
    plain = unicodedata.normalize("NFKD", text.replace("’", "'").lower())
    return "".join(c for c in plain if not unicodedata.combining(c))


_WORDS: dict[str, str] = {word: symbol for language in LANGUAGES for word, symbol in language.words.items()}
_MISSPELT: dict[str, int] = {word: most for language in LANGUAGES for word, most in language.misspelt.items()}
_PHRASES: dict[str, list[tuple[tuple[str, ...], str]]] = {}
for _language in LANGUAGES:
    for _phrase, _symbol in _language.phrases.items():
        _parts = tuple(_phrase.split())
        _PHRASES.setdefault(_parts[0], []).append((_parts, _symbol))
for _list in _PHRASES.values():
    _list.sort(key=lambda item: -len(item[0]))

_MONTH_STEM = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|ene|abr|ago|dic"
_MERIDIEM = r"(?:[ap]\.?\s?m\b\.?|[ap]\b(?!['’.]\w))"
_LEXEMES = re.compile(
    rf"""
      (?P<opaque>https?://\S+ | \S+@\w\S* | [$€£]\s?\d[\d,.]* | \d[\d,.]*\s?[%$€£]
        | (?<![\w-])(?:\+?\d{{1,2}}[\s.-]?)?\(?\d{{3}}\)?[\s.-]\d{{3}}[\s.-]\d{{4}}\b | (?<![\w-])\d{{3}}[-.]\d{{4}}\b
        | \d+(?:[-_]\d+)*_\w+ | \#\s?\d+ | \b24/7\b | \b50/50\b
        | \b(?!(?:{_MONTH_STEM})[a-z]*-?\d{{1,4}}\b)(?!T\d{{1,2}}:)[^\W\d_]+[-_]?\d[\w-]*)
    | (?P<iso>\b(?P<iy>\d{{4}})[-/.](?P<im>\d{{1,2}})[-/.](?P<id>\d{{1,2}})(?!\d))
    | (?P<isomonth>\b(?P<jy>20\d\d)[-/](?P<jm>\d{{1,2}})\b(?![-/]\w))
    | (?P<slash>(?<![\w/.-])(?P<sm>\d{{1,2}})(?P<sep>[/.-])(?P<sd>\d{{1,2}})(?P=sep)(?P<sy>\d{{4}}|\d\d)(?![\w/])
        | (?<![\w/.-])(?P<km>0?[1-9]|1[0-2])-(?P<kd>1[3-9]|2\d|3[01])(?![\w/-]|\s?[ap]\.?m)
        | (?<![\w/.])(?P<tm>\d{{1,2}})/(?P<td>\d{{1,2}})(?![\w/"]))
    | (?P<clock>T?(?<!\d)(?P<ch>\d{{1,2}})(?:(?::|(?<=\d)h(?=\d))(?P<cm>\d\d)(?::\d\d(?:\.\d+)?)?
        (?P<zone>Z|[+-]\d\d:\d\d)?(?:\s?(?P<ca>{_MERIDIEM}))?|\.(?P<dm>\d\d)\s?(?P<da>{_MERIDIEM})|(?P<hm>\d\d)?\s?(?P<ha>[ap]\.?\s?m\b\.?)
        |(?P<la>[ap])\b(?!['’.]\w)|h(?:rs?)?\b)(?:(?!\w)|(?=ish\b)))
    | (?P<ordinal>\b(?P<on>\d{{1,2}})\s?(?:st|nd|rd|th)(?!\w)|\b(?P<oo>\d{{1,2}})\s?[ºª°])
    | (?P<shortyear>['’](?P<yy>\d\d)\b)
    | (?P<number>\d+(?:[.,]\d+)*)
    | (?P<word>[^\W\d_]+(?:['’][^\W\d_]+)*['’]?)
    | (?P<dash>[-–—]+)
    | (?P<comma>[,(])
    | (?P<stop>[.;:!?)\n])
    | (?P<mark>[&@\#])
    """,
    re.VERBOSE | re.IGNORECASE,
)


def _clock(match: re.Match[str]) -> Clock | None:
    hour, minute = int(match["ch"]), int(match["cm"] or match["dm"] or match["hm"] or 0)
    said = match["ca"] or match["da"] or match["ha"] or match["la"] or ""
    meridiem = {"a": "am", "p": "pm"}.get(said[:1].lower(), "")
    text = match["clock"]
    if hour > 23 or minute > 59 or (meridiem == "am" and hour > 12) or (meridiem and hour == 0):
        return None
    padded = bool(match["cm"]) and (match["ch"].startswith("0") or text.count(":") > 1)
    return Clock(hour, minute, meridiem, exact=not meridiem and (hour > 12 or hour == 0 or padded))


def _year(text: str) -> int:
    return int(text) if len(text) == 4 else 2000 + int(text)


def _numeric(first: int, second: int, year: int | None, *, day_first: bool) -> NumericDate | None:
    """Month first, as in the US, unless only the other order can be a date."""
    if day_first or (first > 12 >= second and first <= 31):
        first, second = second, first
    if year is None and (first > 31 or second > 99 or second == 0 or first == 0 or (first > 12 and second > 31)):
        return None
    return NumericDate(year, first, second)


def _lexeme(match: re.Match[str]) -> Token:
    kind, (start, end) = match.lastgroup or "", match.span()
    text = match.group()
    token = Token("x", start, end, fold(text))
    if match["iso"]:
        return replace(token, symbol="DATE", value=NumericDate(int(match["iy"]), int(match["im"]), int(match["id"])))
    if match["isomonth"]:
        return replace(token, symbol="MONTHOF", value=NumericDate(int(match["jy"]), int(match["jm"]), None))
    if match["slash"]:
        if match["km"]:
            day = _numeric(int(match["km"]), int(match["kd"]), None, day_first=False)
        elif match["tm"]:
            day = _numeric(int(match["tm"]), int(match["td"]), None, day_first=False)
        else:
            dotted = match["sep"] == "." and int(match["sd"]) <= 12
            day = _numeric(int(match["sm"]), int(match["sd"]), _year(match["sy"]), day_first=dotted)
        return replace(token, symbol="DATE", value=day) if day else token
    if match["clock"]:
        clock = _clock(match)
        return replace(token, symbol="T", value=clock) if clock else token
    if match["ordinal"]:
        return replace(token, symbol=f"O{int(match['on'] or match['oo'])}")
    if match["shortyear"]:
        return replace(token, symbol=f"Y{_year(match['yy'])}")
    if match["number"]:
        return _number(token)
    if match["word"] or match["mark"]:
        return replace(token, symbol=_symbol_of(token.word))
    return replace(token, symbol={"dash": "-", "comma": ",", "stop": "."}.get(kind, "x"))


def _number(token: Token) -> Token:
    if not token.word.isdigit():
        return token
    number = int(token.word)
    if len(token.word) <= 2:
        return replace(token, symbol=f"N{number}", value=number)
    if len(token.word) == 4 and 2000 <= number < 2100:
        return replace(token, symbol=f"Y{number}", value=number)
    # Three or four digits may still be a time ("at 1030"); anything longer is an id.
    return replace(token, symbol="H" if len(token.word) <= 4 else "x", value=number)


@lru_cache(maxsize=2048)
def _symbol_of(word: str) -> str:
    if word in _WORDS:
        return _WORDS[word]
    bare = word.rstrip("'")
    if bare in _WORDS:
        return _WORDS[bare]
    return _WORDS.get(_intended(word), "x")


def _intended(word: str) -> str:
    """The date word a misspelt one stands for, or "": one clear winner, same first letter (or first two swapped)."""
    if len(word) < 5 or word in NOT_MISSPELT:
        return ""
    best: dict[int, list[str]] = {}
    for known, most in _MISSPELT.items():
        if word[0] != known[0] and word[:2] != known[1::-1]:
            continue
        distance = OSA.distance(word, known, score_cutoff=most)
        if distance <= (most if len(word) >= 7 else 1):
            best.setdefault(distance, []).append(known)
    nearest = best[min(best)] if best else []
    return nearest[0] if len(nearest) == 1 else ""


def lex(text: str) -> tuple[Token, ...]:
    """Tokens of a text in order; spans are positions in `text`."""
    return _lex(text)


@lru_cache(maxsize=256)
def _lex(text: str) -> tuple[Token, ...]:
    tokens = [_lexeme(match) for match in _LEXEMES.finditer(text)]
    tokens = list(_without_abbreviation_stops(tokens))
    tokens = list(_with_phrases(tokens))
    tokens = _with_compounds(tokens)
    return tuple(_with_context(tokens))


def _without_abbreviation_stops(tokens: Sequence[Token]) -> Iterator[Token]:
    """ "Mar. 16" is one date: drop the full stop of an abbreviation when a number follows."""
    for i, token in enumerate(tokens):
        before, after = tokens[i - 1] if i else None, tokens[i + 1] if i + 1 < len(tokens) else None
        between = before and after and before.symbol[0] in "MW" and after.symbol[0] in "NOMoTD"
        if token.word == "." and between and before and before.end == token.start and len(before.word) <= 5:
            continue
        yield token


def _with_phrases(tokens: Sequence[Token]) -> Iterator[Token]:
    i = 0
    while i < len(tokens):
        for words, symbol in _PHRASES.get(tokens[i].word, ()):
            if tuple(token.word for token in tokens[i : i + len(words)]) == words:
                last = tokens[i + len(words) - 1]
                first, _, second = symbol.partition(" ")
                if second:
                    yield Token(first, tokens[i].start, tokens[i].end, tokens[i].word)
                    yield Token(second, last.start, last.end, last.word)
                else:
                    yield Token(symbol, tokens[i].start, last.end, " ".join(words))
                i += len(words)
                break
        else:
            yield tokens[i]
            i += 1


def _with_compounds(tokens: Sequence[Token]) -> list[Token]:
    """Make "twenty-first" one number; a number that labels something ("option 2") is no date and no time."""
    merged: list[Token] = []
    i = 0
    while i < len(tokens):
        token = tokens[i]
        tail = next((j for j in (i + 1, i + 2) if j < len(tokens) and tokens[j].symbol != "-"), None)
        units = _ORDINAL_TENS.get(token.word)
        if units and tail and re.fullmatch(r"[on][1-9]", tokens[tail].symbol):
            number = units + int(tokens[tail].symbol[1:])
            merged.append(Token(f"{tokens[tail].symbol[0]}{number}", token.start, tokens[tail].end, f"{number}"))
            i = tail + 1
            continue
        if token.word in ("twenty", "thirty"):
            token = replace(token, symbol=f"n{units}")
        merged.append(token)
        i += 1
    return [_unless_counted(merged, i) for i in range(len(merged))]


def _unless_counted(tokens: Sequence[Token], i: int) -> Token:
    token = tokens[i]
    if token.symbol[0] not in "NHY" or token.symbol in (
        "NEXT",
        "NOT",
        "NO",
        "NOW",
        "NEG",
        "NOON",
        "YEAR",
        "YESTERDAY",
        "HALF",
    ):
        return token
    before = tokens[i - 1].word if i else ""
    labelled = before in _LABELS or (before == "." and i > 1 and tokens[i - 2].word == "no")
    after = tokens[i + 1].word if i + 1 < len(tokens) else ""
    numbers_a_list = after == ")" and "(" not in {t.word for t in tokens[max(0, i - 4) : i]}
    return replace(token, symbol="x") if labelled or numbers_a_list or _opens_address(tokens, i) else token


_LABELS = word_set(
    "number option apt apartment unit suite room choice item project order job code gate # line page step version "
    "level tech store zip pick ticket case opcion numero"
)
_NOT_STREET_NAMES = word_set(
    "by the either any no on is my your at in a or and to for works work that this one all half way"
)


def _opens_address(tokens: Sequence[Token], i: int) -> bool:
    """ "12 Sample Ln", "80 N Test Ct": a number, one to three names, a kind of street."""
    for j in range(i + 1, min(i + 5, len(tokens))):
        if tokens[j].symbol == "STREET":
            return j > i + 1
        name = tokens[j]
        if name.word in _NOT_STREET_NAMES or not name.word[:1].isalpha() or name.symbol in ("T", "DATE", "ok"):
            return False
    return False


_BEFORE_WEEKDAY = word_set(
    "ON THIS NEXT COMING LAST EVERY BEFORE AFTER UNTIL SINCE FROM TO BETWEEN NOT FOR INSTEAD - OR"
)
_AFTER_WEEKDAY = re.compile(
    r"[NOTMWYD]\d|DATE|T$|PART|AT$|-$|TO$|NEXT|THIS|COMING|OR$|AND$|THE$|AFTER|BEFORE|ok$|FIRSTTHING|NOON|o\d|LATER|DOES|NEG"
)
_BESIDE_MONTH = re.compile(r"[NOo]\d|Y\d")
_BEFORE_MONTH = word_set("IN OF THIS NEXT COMING EARLY MID LATE UNTIL BEFORE AFTER SINCE - WITHIN")


def _with_context(tokens: Sequence[Token]) -> Iterator[Token]:
    """Decide the words that are a date only in company ("sat", "may")."""
    spoken = [token for token in tokens if token.symbol not in (".", ",", "ok")]
    for i, token in enumerate(tokens):
        before = tokens[i - 1].symbol if i else "^"
        after = tokens[i + 1].symbol if i + 1 < len(tokens) else "$"
        if token.word in DOUBTFUL_WEEKDAYS and token.symbol[0] == "W":
            kept = len(spoken) == 1 or _weekday_in_company(tokens, i, before, after)
        elif token.word in DOUBTFUL_MONTHS and token.symbol[0] == "M":
            further = tokens[i + 2].symbol if i + 2 < len(tokens) else ""
            joined = after in ("THE", "-") and further[:1] in ("O", "o", "N")
            dashed = before == "-" and i > 1 and tokens[i - 2].symbol[0] in "NO"
            numbered = dashed or bool(_BESIDE_MONTH.match(before) or _BESIDE_MONTH.match(after)) or joined
            kept = len(spoken) == 1 or numbered or (before in _BEFORE_MONTH and after not in ("THE",))
        else:
            kept = True
        yield token if kept else replace(token, symbol="x")


def _weekday_in_company(tokens: Sequence[Token], i: int, before: str, after: str) -> bool:
    if before == "THE":
        return False
    if before in _BEFORE_WEEKDAY:
        return True
    if _AFTER_WEEKDAY.match(after):
        follows = tokens[i + 2].symbol if i + 2 < len(tokens) else "$"
        if after in ("OR", "AND"):
            return follows[0] in "WP" and follows[1:].isdigit()
        if tokens[i + 1].word == "is":
            return follows in ("ok", "$", ".", "NOT", "NO")
        return before != "x" or after not in ("THE", "ok")
    return after in ("$", ".", ",") and before in ("^", ".", ",", "OR", "AND", "ok", "AT", "DO")
