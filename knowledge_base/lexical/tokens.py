"""Text as words that match, whatever its script and language.

Stored words depend on this module: whoever changes what comes out of it raises `TOKENS_VERSION`, and every base has to
be indexed anew. Languages are not detected, since a question of three words does not tell its own; what is done to a
word follows from its script alone, so that question and document agree.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise

from snowballstemmer.armenian_stemmer import ArmenianStemmer
from snowballstemmer.english_stemmer import EnglishStemmer
from snowballstemmer.greek_stemmer import GreekStemmer
from snowballstemmer.hindi_stemmer import HindiStemmer
from snowballstemmer.russian_stemmer import RussianStemmer
from snowballstemmer.tamil_stemmer import TamilStemmer

TOKENS_VERSION = 1

# Latin words end here: inflections, and the heads of German compounds, differ behind it. Measured on English, German
# and Spanish questions, where six to nine letters do about equally well and the stem alone worse.
LATIN_LETTERS = 8
MAX_LENGTH = 40  # of any word: longer ones are codes or broken text
MAX_PARTS = 3  # of a word of letters and digits ("24h", "b2b") that are words by themselves

HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff々〆"
CJK = HAN + "\u3040-\u30ff\u3105-\u312f\u31a0-\u31bf\u31f0-\u31ff\uac00-\ud7a3"
# Thai, Lao, Myanmar and Khmer without their digits: no spaces between words
UNSPACED = "\u0e01-\u0e4e\u0e81-\u0ecd\u0edc-\u0edf\u1000-\u103f\u1050-\u108f\u1780-\u17d3\u17dc\u17dd"
# Signs that belong to words of Indic, Tibetan and the above scripts, but are no letters for `re`
SIGNS = "\u0900-\u0963\u0971-\u0dff\u0e31-\u0e4e\u0eb1-\u0ece\u0f18-\u0f87\u102b-\u108f\u1780-\u17dd"

_WORD = re.compile(rf"[\w{SIGNS}]+")
_PIECE = re.compile(rf"[{CJK}]+|[{UNSPACED}]+|[^{CJK}{UNSPACED}]+")
_IS_HAN = re.compile(f"[{HAN}]")
_IS_CJK = re.compile(f"[{CJK}]")
_IS_UNSPACED = re.compile(f"[{UNSPACED}]")
# A syllable of those scripts: a vowel written before, a base, and what hangs on it (with subjoined consonants)
_SYLLABLE = re.compile(
    "[\u0e40-\u0e44\u0ec0-\u0ec4]?[^\u0e40-\u0e44\u0ec0-\u0ec4]"
    "(?:[\u0e30-\u0e3a\u0e45\u0e47-\u0e4e\u0eb0-\u0ebc\u0ec8-\u0ecd\u102b-\u1038\u103a-\u103e\u1056-\u1059\u17b6-\u17d1\u17d3\u17dd]"
    "|[\u1039\u17d2].)*"
)
# Points and accents that did not compose, Hebrew and Arabic vowel signs, tatweel, soft hyphens, marks of direction
_UNWRITTEN = re.compile(
    "[\u00ad\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670"
    "\u06d6-\u06ed\u200b-\u200f\u202a-\u202e\u2060\u2066-\u2069\ufe00-\ufe0f\ufeff]"
)
_THOUSANDS = re.compile(r"[.,'’](?<=\d.)(?=\d{3}(?!\d))")
_DIGITS_OR_LETTERS = re.compile(r"\d+|\D+")

_LATIN = str.maketrans({"ø": "o", "đ": "d", "ł": "l", "æ": "ae", "œ": "oe", "ı": "i", "ð": "d", "þ": "th", "ħ": "h"})
_ARABIC = str.maketrans("أإآٱىیئةک", "ااااييي" + "هك")
_ARABIC_BEFORE = ("وال", "بال", "كال", "فال", "لل", "ال")
_ARABIC_AFTER = ("ها", "ان", "ات", "ون", "ين", "يه", "ه", "ي")

_english = EnglishStemmer()
# The stemmers keep the word they work on, so that two threads at once would mix theirs up
_one_at_a_time = threading.Lock()


def tokens(text: str) -> list[str]:
    """The words of a text, in order and as often as they occur; none for punctuation alone.

    Latin, Cyrillic, Greek and other alphabets give a stem per word, without case and accents. Chinese, Japanese and
    Korean give every two neighbouring characters (Han also each character), Thai, Lao, Khmer and Burmese every two
    syllables. Words of letters and digits are given whole and by their parts.
    """
    text = text.lower() if text.isascii() else _UNWRITTEN.sub("", unicodedata.normalize("NFKC", text).casefold())
    found: list[str] = []
    for word in _WORD.findall(_THOUSANDS.sub("", text).replace("_", " ")):
        # Runs of characters without spaces hardly recur, and would push words out of the cache
        found += _of_word(word) if word[0] < "\u0e00" and len(word) <= MAX_LENGTH else _split(word)
    return found


@lru_cache(maxsize=1 << 17)
def _of_word(word: str) -> tuple[str, ...]:
    return _split(word)


def _split(run: str) -> tuple[str, ...]:
    if run.isascii():
        return _alphabetic(run)
    found: list[str] = []
    for piece in _PIECE.findall(run):
        if _IS_CJK.match(piece):
            found += _pairs(list(piece))
            if len(piece) > 1:
                found += _IS_HAN.findall(piece)
        elif _IS_UNSPACED.match(piece):
            found += _pairs(_SYLLABLE.findall(piece) or [piece])
        else:
            found += _alphabetic(piece)
    return tuple(found)


def _pairs(units: list[str]) -> list[str]:
    return [a + b for a, b in pairwise(units)] or units


def _alphabetic(word: str) -> tuple[str, ...]:
    parts = _DIGITS_OR_LETTERS.findall(word)
    if len(parts) == 1:
        return (_stem(word),)
    whole = (_plain(word)[:MAX_LENGTH],)
    return whole if len(parts) > MAX_PARTS else (*whole, *map(_stem, parts))


def _stem(word: str) -> str:
    if word[0].isdecimal():
        return str(int(word[0])) + "".join(str(int(each)) for each in word[1:MAX_LENGTH])
    plain = _plain(word)
    for first, last, of_script in _SCRIPTS:
        if first <= plain[0] <= last:
            with _one_at_a_time:
                return of_script(plain)[:MAX_LENGTH]
    return plain[:MAX_LENGTH]


def _plain(word: str) -> str:
    """Without accents where they do not make another letter: not in Indic scripts, and not of й."""
    if word.isascii() or "\u0400" <= word[0] <= "\u052f" or word[0] >= "\u0900":
        return word.replace("ё", "е")
    apart = unicodedata.normalize("NFD", word.translate(_LATIN))
    return "".join(each for each in apart if not unicodedata.combining(each)) or word


def _latin(word: str) -> str:
    return str(_english.stemWord(word))[:LATIN_LETTERS]


def _arabic(word: str) -> str:
    """Light stemming: one form of each letter, without article, conjunction and the commonest endings."""
    word = word.translate(_ARABIC)
    for start in _ARABIC_BEFORE:
        if word.startswith(start) and len(word) >= len(start) + 2:
            word = word[len(start) :]
            break
    else:
        if word.startswith("و") and len(word) >= 4:
            word = word[1:]
    for end in _ARABIC_AFTER:
        if word.endswith(end) and len(word) >= len(end) + 2:
            word = word[: -len(end)]
    return word


_SCRIPTS: tuple[tuple[str, str, Callable[[str], str]], ...] = (
    ("a", "\u024f", _latin),
    ("\u0400", "\u052f", RussianStemmer().stemWord),
    ("\u0600", "\u06ff", _arabic),
    ("\u0370", "\u03ff", GreekStemmer().stemWord),
    ("\u0530", "\u058f", ArmenianStemmer().stemWord),
    ("\u0900", "\u097f", HindiStemmer().stemWord),
    ("\u0b80", "\u0bff", TamilStemmer().stemWord),
)
