"""Words as people type them: abbreviations expanded, typos mended against what the definition knows, stems.

Nothing here knows a language or a domain; both come in with the definition's `language` block.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache

import snowballstemmer
from rapidfuzz.distance import OSA

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?|[^\w\s]", re.UNICODE)
_STEMMER = snowballstemmer.stemmer("english")


@lru_cache(maxsize=8192)
def stem(word: str) -> str:
    """The word without its inflection."""
    return str(_STEMMER.stemWord(word))


def fold(text: str) -> str:
    """Lower case, straight quotes."""
    return unicodedata.normalize("NFC", text).replace("’", "'").replace("‘", "'").lower()


def unaccent(text: str) -> str:
    """Without diacritics."""
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


class Lexicon:
    """Mends spelling against a closed vocabulary.

    Args:
        aliases: word or phrase -> what it stands for ("tmrw" -> "tomorrow"); longest phrase first.
        vocabulary: every word that the definition uses; an unknown word close to exactly one of them becomes it.
        ordinary: words that are spelled right and must not be mended into something else.
    """

    def __init__(self, aliases: Mapping[str, str], vocabulary: Iterable[str], ordinary: Iterable[str]) -> None:
        self._aliases = {fold(k): v for k, v in aliases.items()}
        phrases = sorted(self._aliases, key=len, reverse=True)
        words = "|".join(map(re.escape, phrases))
        self._alias = re.compile(rf"(?<!\w)(?:{words})(?!\w)") if phrases else None
        self._ordinary = frozenset(ordinary)
        self._vocabulary = frozenset(w for w in vocabulary if len(w) > 3)
        self._known = self._vocabulary | self._ordinary
        self._by_letter: dict[str, list[str]] = {}
        for word in sorted(self._vocabulary):
            self._by_letter.setdefault(word[0], []).append(word)

    def is_known(self, word: str) -> bool:
        """Whether a word is in the vocabulary or an ordinary one."""
        return word in self._known or stem(word) in self._known or word in self._aliases

    def expand(self, text: str) -> str:
        """`text` folded, with every alias written out."""
        plain = fold(text)
        if self._alias is None:
            return plain
        return self._alias.sub(lambda m: self._aliases[m.group()], plain)

    def mend(self, text: str) -> str:
        """Expanded text with unknown words replaced by their one near neighbour in the vocabulary."""
        return " ".join(self._mend_word(w) for w in WORD.findall(unaccent(self.expand(text))))

    @lru_cache(maxsize=4096)  # noqa: B019  one lexicon lives as long as the process
    def _mend_word(self, word: str) -> str:
        if len(word) < 4 or not word.isalpha() or word in self._known or stem(word) in self._known:
            return word
        allowed = 1 if len(word) < 7 else 2
        near = [(OSA.distance(word, known, score_cutoff=allowed), known) for known in self._by_letter.get(word[0], ())]
        # "closer" is no misspelt "closed": a word that differs only in its last letter is another word.
        near = [(d, k) for d, k in near if d <= allowed and not (len(k) == len(word) and k[:-1] == word[:-1])]
        if not near:
            return word
        best = min(d for d, _ in near)
        hits = {known for d, known in near if d == best}
        if best > 1 and len({stem(hit) for hit in hits}) > 1:
            return word  # two readings equally far off: leave it
        return min(hits, key=lambda known: (abs(len(known) - len(word)), known))
