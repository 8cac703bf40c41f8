"""Which character set bytes are in that declare none and are no UTF-8: judged by the languages they would be in.

Every candidate is decoded and scored by how well its letters fit one language: the letters of its alphabet, how often
the common ones occur, symbols and capitals inside words, small words. What fits none is refused rather than guessed.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import pairwise

SAMPLE = 2**13
ENOUGH_EAST, ENOUGH_LATIN, ENOUGH_SCRIPT = 0.75, 0.8, 0.55

# By character set, in order of preference: languages with their letters beyond ASCII, and words that every text has.
_WEST = {
    "de": ("äöüß", "der die und ist für nicht mit das ein auf zu von den im"),
    "fr": ("éèêëàâçùûîïôœæ", "le la les et est des une un du pour que dans à en"),
    "es": ("áéíóúñü", "el la los y es de que en una un por para con se"),
    "pt": ("ãõáâàéêíóôúç", "o a os e é de que em uma um por para com não"),
    "it": ("àèéìòù", "il la le e è di che in una un per con non del"),
    "nl": ("éëïöüè", "de het een en is van in op niet met voor te"),
    "sv": ("åäöé", "och att det är en ett på av för med som inte"),
    "da": ("æøåé", "og at det er en et på af for med som ikke"),
    "is": ("áðéíóúýþæö", "og að er í á sem það ekki við fyrir"),
    "en": ("éèêëïöüçàñâôîáíóú", "the and of to in is for with on that at by we you"),
}
_CENTRAL = {
    "pl": ("ąćęłńóśźż", "i w na nie się z do jest to że od dla są"),
    "cs": ("áčďéěíňóřšťúůýž", "a v na je se že do s o to za pro"),
    "sk": ("áäčďéíĺľňóôŕšťúýž", "a v na je sa že do s o to za pre"),
    "hu": ("áéíóöőúüű", "a az és nem hogy is egy meg van ez"),
    "ro": ("ăâîşţ", "și şi în de la nu cu este o pe un din"),
    "hr": ("čćšžđ", "i u na je se da za su od s ne"),
}
_TURKISH = {"tr": ("çğıöşüâî", "ve bir bu için ile de da ne çok var")}
_BALTIC = {
    "lt": ("ąčęėįšųūž", "ir yra į iš su kad kaip tai ne per"),
    "lv": ("āčēģīķļņšūž", "un ir no ar par kas uz lai ka nav"),
    "et": ("äöõüšž", "ja on ei et see kui ka või ning"),
}
LATIN = (
    ("cp1252", _WEST),
    ("cp1250", _CENTRAL),
    ("iso8859_2", _CENTRAL),
    ("iso8859_15", _WEST),
    ("cp1254", _TURKISH),
    ("cp1257", _BALTIC),
    ("cp850", _WEST),
    ("mac_roman", _WEST),
    ("cp852", _CENTRAL),
)
_CYRILLIC = ("абвгдежзийклмнопрстуфхцчшщъыьэюяёіїєґўјљњћџђѓќѕ", "оеаинтсрвлкд")
SCRIPTS = (
    *((charset, *_CYRILLIC) for charset in ("cp1251", "koi8_r", "koi8_u", "iso8859_5", "cp866", "mac_cyrillic")),
    *((charset, "αβγδεζηθικλμνξοπρσςτυφχψωάέήίόύώϊϋΐΰ", "αοιετνσςηρό") for charset in ("cp1253", "iso8859_7")),
    *((charset, "אבגדהוזחטיךכלםמןנסעףפץצקרשת", "יוהלאתרמבשנם") for charset in ("cp1255", "iso8859_8")),
    *((charset, "ءآأؤإئابةتثجحخدذرزسشصضطظعغفقكلمنهوىي", "اليمنورتبةعد") for charset in ("cp1256", "iso8859_6")),
    ("cp874", "".join(map(chr, range(0x0E01, 0x0E5C))), "านรอกเงมยลวดทส่้ัี"),
)
_WORD = re.compile(r"[^\W\d_]+")
_RUN = re.compile(r"[^\s\d_!-@\[-`{-~]+")  # also marks that are written over letters
SIGNS = frozenset("«»‹›“”„‘’‚–—―…•·€£¥¢§°©®™´¨¿¡ªº½¼¾²³±×÷№µ¶†‡\xa0\xad،؛؟")
MIXED = 0.85  # what a text is worth that needs several languages' letters
FEWEST = 4  # letters that tell a script


def guess(content: bytes) -> str | None:
    """The best candidate by which all of the content can be decoded; None when none fits well."""
    sample = _telling(content)
    scored = sorted(_scores(sample), key=lambda each: -each[0])
    for _, charset in scored:
        try:
            content.decode(charset)
        except UnicodeDecodeError:
            continue
        return charset
    return None


def _telling(content: bytes) -> bytes:
    """The lines that are not ASCII, as many as are sampled."""
    lines: list[bytes] = []
    length = 0
    for line in content.splitlines() if len(content) < SAMPLE else _lines(content):
        if not line.isascii():
            lines.append(line)
            length += len(line)
            if length >= SAMPLE:
                break
    return b"\n".join(lines)[:SAMPLE]


def _lines(content: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(content):
        end = content.find(b"\n", at)
        end = len(content) if end < 0 else end
        yield content[at : min(end, at + SAMPLE)]
        at = end + 1


def _scores(sample: bytes) -> Iterator[tuple[float, str]]:
    """Candidates that fit well enough; of equal ones the first is preferred."""
    for charset, common in EAST:
        text = _decoded(sample, charset)
        if text and (score := _east(text, common)) >= ENOUGH_EAST:
            yield score + 1, charset
    for charset, letters, frequent in SCRIPTS:
        text = _decoded(sample, charset)
        if text and (score := _script(text, letters, frequent)) >= ENOUGH_SCRIPT:
            yield score, charset
    for charset, languages in LATIN:
        text = _decoded(sample, charset)
        if text:
            mixed = "".join(letters for letters, _ in languages.values())
            score = max(_latin(text, letters, words) for letters, words in languages.values())
            score = max(score, _latin(text, mixed, "") * MIXED)
            if score >= ENOUGH_LATIN:
                yield score, charset


def _decoded(sample: bytes, charset: str) -> str:
    """Empty when it cannot be; a last character may be cut off."""
    try:
        return codecs.getincrementaldecoder(charset)("strict").decode(sample, False)
    except UnicodeDecodeError:
        return ""


def _latin(text: str, letters: str, small_words: str) -> float:
    """Share of the letters beyond ASCII that are of the language; up to a fifth more by its small words."""
    good = bad = 0
    held = set(letters) | set(letters.upper())
    for n, character in enumerate(text):
        if character.isascii():
            continue
        if character in held:
            before = text[n - 1 : n] if n else ""
            wrong = character.isupper() and before.islower()
        else:
            inside = text[n - 1 : n].isalpha() and text[n + 1 : n + 2].isalpha()
            wrong = character not in SIGNS or (inside and character not in "’·–—\xad\xa0")
            if not wrong:
                continue
        good, bad = good + (not wrong), bad + wrong
    if good > sum(character.isascii() and character.isalpha() for character in text):
        return 0.0
    words = _WORD.findall(text.lower())
    known = sum(word in small_words.split() for word in words) if words else 0
    share = good / (good + bad) if good + bad else 0.9
    return share + min(known / len(words), 0.4) / 2 if words else 0.0


def _script(text: str, letters: str, frequent: str) -> float:
    """Share of the letters that are of the script and not inside Latin words, weighed by how common they are."""
    good = bad = common = 0
    for run in _RUN.findall(text):
        word = "".join(letter for letter in run if letter not in SIGNS)
        foreign = sum(not letter.isascii() for letter in word)
        if not foreign:
            continue
        small = word.lower()
        fits = sum(letter in letters for letter in small)
        mixed = foreign != len(word) or any(a.islower() and b.isupper() for a, b in pairwise(word))
        good, bad = (good, bad + foreign) if mixed else (good + fits, bad + foreign - fits)
        common += sum(letter in frequent for letter in small)
    if good < FEWEST:
        return 0.0
    return good / (good + bad) * min(common / good / 0.55, 1.2)


def _east(text: str, common: Callable[[str], float]) -> float:
    score, count = 0.0, 0
    for n, character in enumerate(text):
        if character.isascii():
            continue
        before, after = text[n - 1 : n] if n else "", text[n + 1 : n + 2]
        alone = before.isascii() and after.isascii() and (before.islower() or after.islower())
        score += 0.0 if alone else common(character)
        count += 1
    return score / count if count else 0.0


def _lead(character: str, charset: str) -> int:
    try:
        encoded = character.encode(charset)
    except UnicodeEncodeError:
        return 0
    return encoded[0] if len(encoded) == 2 else 0


def _mark(character: str) -> bool:
    return character in "“”‘’…—–·×÷°±№→" or "\u3000" <= character <= "\u303f" or "\uff01" <= character <= "\uff5e"


def _kana(character: str) -> bool:
    return "\u3041" <= character <= "\u30ff"


@lru_cache(20_000)
def _simplified(character: str) -> float:
    return float(_mark(character) or (not _kana(character) and 0xB0 <= _lead(character, "gb2312") <= 0xD7))


@lru_cache(20_000)
def _traditional(character: str) -> float:
    return float(_mark(character) or 0xA4 <= _lead(character, "big5") <= 0xC6) * (not _kana(character))


@lru_cache(20_000)
def _japanese(character: str) -> float:
    # No Japanese text is without kana; so kanji alone are not enough, and kana more than that.
    if _kana(character):
        return 1.15
    return 0.95 if _mark(character) else 0.7 * (0xB0 <= _lead(character, "euc_jp") <= 0xCF)


@lru_cache(20_000)
def _korean(character: str) -> float:
    if "\uac00" <= character <= "\ud7a3":
        return 1.05 if _lead(character, "euc_kr") else 0.2
    return float(_mark(character))


EAST: tuple[tuple[str, Callable[[str], float]], ...] = (
    ("cp949", _korean),
    ("cp932", _japanese),
    ("euc_jp", _japanese),
    ("gb18030", _simplified),
    ("big5hkscs", _traditional),
)
