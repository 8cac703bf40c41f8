"""Judges a user's message as the answer to open pending actions: was that a yes, and to what?

Code decides this, never a model. The judge is conservative: it confirms only what it fully understands, and asks again
otherwise, since a second question costs a moment and a wrong write costs an appointment. It knows no domain: the words
that name an action come with the pending actions (`verbs`, `labels`), everything else stands in the tables below.

The message is read as segments (between punctuation, "and", "but"); each is a yes, a no, a hesitation, a change, a
question, a correction of the address, or a remark; `judge` weighs them. Any date or time that is not the pending
action's makes the message a change.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from functools import lru_cache
from typing import Literal
from uuid import UUID

import snowballstemmer
from rapidfuzz.distance import OSA

from agent.date_words import fold, word_set
from agent.dates import DateMention, TimeMention, find_dates, find_times

VerdictKind = Literal["confirm", "decline", "hold", "amend", "question", "address_correction", "other"]
Channel = Literal["chat", "sms", "voice"]


@dataclass(frozen=True, slots=True)
class PendingView:
    """What the judge needs to know of one open pending action.

    `verbs` are the words that name the action ("book", "schedule"), `labels` those that name its object (category,
    type, order number, street, list position). `dates` and `times` are what was restated and may be repeated in a yes:
    the new slot, or the one that a cancellation gives up. `restated_last`: the assistant's last reply restated this
    action and asked. `changes` are patterns of what makes it another action; where one has a group `label`, only if
    that names none of the labels ("Team A" beside the label "Team B").
    """

    pending_id: UUID
    tool: str
    verbs: tuple[str, ...]
    times: tuple[time, ...]
    dates: tuple[date, ...]
    labels: tuple[str, ...]
    restated_last: bool
    expires_at: datetime
    changes: tuple[re.Pattern[str], ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a message answers the pending actions.

    | kind | meaning | `pending_ids` |
    |---|---|---|
    | confirm | an explicit yes | the confirmed ones |
    | decline | an explicit no | those to drop |
    | hold | undecided, or not clear enough: keep them and ask again | all open |
    | amend | wants something else than was asked: `rest` is the new wish | those it concerns |
    | question | asks something first: keep them, answer `rest` | all open |
    | address_correction | corrects the address (`rest`) | the confirmed ones; empty without a yes |
    | other | no answer to them | none |

    `rest` is what remains of the message after the yes or no, to be handled as a further wish.
    """

    kind: VerdictKind
    pending_ids: tuple[UUID, ...] = ()
    rest: str = ""
    reason: str = ""

    @property
    def confirms(self) -> bool:
        """Whether the actions in `pending_ids` may run now."""
        return bool(self.pending_ids) and self.kind in ("confirm", "address_correction")


# --- tables ---------------------------------------------------------------------------------------------------------
# One row per class of words; phrases are separated by "|" and written without accents. Of two rows that hold the same
# phrase the later one wins; of two phrases the longer one.

_TABLE: dict[str, str] = {
    # Words that carry no decision of their own.
    "filler": (
        "pues|actually|acutally|please|pls|plz|plss|thanks|thank you|thx|ty|tnx|dear|sir|maam|ma'am|madam|sorry|oh|ah|"
        "well|so|then|now|just|really|very|much|lol|haha|hey|hi|hello|a|an|for|me|us|to|at|on|in|with|of|is|are|be|"
        "i|i'm|im|we|you|your|u|ur|right away|right now|asap|quickly|already|again|there|here|too|as well|also|man|"
        "buddy|mate|bro|team|folks|great|good|nice|awesome|cool|excellent|wonderful|lovely|super|amazing|"
        "rather not say why|i'd rather not say why|don't want to say|i don't want to say|i don't want to say why|"
        "none of your business|"
        "no problem|no prob|no probs|no worries|no rush|no hurry|no objection|no objections|no issue|no issues|"
        "no reason|no particular reason|no special reason|no specific reason|no real reason|omg|ugh|argh|wow|gosh|jeez|"
        "sheesh|god|finally|hah|ha|rather not say|prefer not to say|i'd rather not say|i want to|i want you to|i want|"
        "i'd like to|"
        "i'd like you to|id like to|i would like to|i'd like|let's|lets|you can|you may|i said|do|silly me|my bad|"
        "the|my|our|from|as|discussed|planned|proposed|offered|listed|said|above|por favor|gracias|entonces|ya|muy|"
        "bien|para|el|la|los|las|que|lo|senor|senora|see you|see you then|see ya|looking forward|"
        "looking forward to it|talk soon|have a good day|have a nice day|bye|goodbye|appreciate it|"
        "much appreciated|so much|a lot|that's all|thats all|that is all|go ahead and|go on and|can't wait|"
        "cant wait"
    ),
    "object": (
        "it|that|this|these|those|them|one|ones|appointment|slot|visit|time|date|day|thing|whole thing|"
        "everything listed|booking|project|job|order|same|the same|that one|this one|the one|eso|esto|esa|ese|"
        "la cita|cita"
    ),
    "yes": (
        "that's it|thats it|that is it|that's the one|thats the one|i'd like that|i would like that|i'll take it|"
        "ill take it|we'll take it|i will take it|we will take it|put me down|sign me up|"
        "hell yes|hell yeah|heck yes|heck yeah|yes|yess|yse|yea|yeah|yeh|yep|yeps|yup|yupp|ys|yessir|yess please|"
        "yeah yeah|affirmative|by all means|confirm|confirmed|i confirm|confirming|i agree|agreed|approved|approve|"
        "accepted|i accept|go ahead|goahead|go for it|do it|do that|do so|please do|pls do|proceed|make it so|"
        "lock it in|let's do it|lets do it|let's do that|lets go|let's go|i am sure|i'm sure|im sure|si|sip|claro|"
        "claro que si|dale|adelante|de acuerdo|por supuesto|confirmo|confirmado|hazlo|esta bien|asi es|👍|✅|👌|✔|☑|🆗|"
        "💯|🙌"
    ),
    # A yes on its own, but as often the opening of something else ("ok what about ...").
    "weak": (
        "that would be great|that'd be great|that would be good|that'd be good|that would be perfect|that'd be perfect|"
        "that would be fine|that'd be fine|that would work|that'd work|"
        "ok|okay|okey|okie|oki|okok|k|kk|okeydoke|okie dokie|okey dokey|okey doke|oki doki|it's fine|its fine|"
        "it is fine|it's ok|its ok|it's good|its good|okay then|ok then|alright|all right|alrighty|right|sure|"
        "sure thing|fine|perfect|works|perfecto|vale|bueno|okay cool|ok cool|very well|fair enough|deal|👏|🙂|😊|go|"
        "ya|yah|ye|yas|aye|absolutely|definitely|certainly|of course|for sure|exactly|correct|that's right|"
        "thats right|that is right|that's correct|thats correct|that is correct|sounds good|sounds great|"
        "sounds perfect|sounds fine|sounds right|sound good|looks good|looks right|looks great|looks correct|"
        "that works|this works|it works|works for me|works for us|that'll work|that will work|that's fine|"
        "thats fine|that is fine|that's good|thats good|that's perfect|thats perfect|that's great|that's ok|"
        "thats ok|that's okay|is fine|is good|is ok|is okay|is perfect|is great|is correct|is right|works great|"
        "works perfectly|works well|all good|good to go|happy with that|correcto|all set|si claro"
    ),
    "all": (
        "both|both of them|all|all of them|all of it|everything|each|all three|all two|ambos|ambas|todos|todas|todo"
    ),
    "only": ("only|just the|just that|just this|solo|solamente"),
    "no": (
        "hell no|heck no|no|nope|nah|nay|naw|nop|noo|no no|no thanks|no thank you|no gracias|no way|never|"
        "never mind|nevermind|nvm|forget it|forget about it|forget that|forget this|keep it|keep that|keep them|"
        "leave it|leave that|leave the other|leave the others|leave the rest|keep the|keep my|keep our|keep mine|"
        "don't|dont|do not|stop|stop it|stop that|abort|scrap that|scrap it|drop it|drop that|not interested|"
        "negative|no deal|i changed my mind|changed my mind|skip it|skip that|not doing it|i decline|decline|"
        "declined|reject|rejected|disagree|undo|yeah no|yea no|not that one|not this one|none|neither|"
        "neither of them|not any|mejor no|no quiero|olvidalo|dejalo|nunca|ninguno|ninguna|nada|👎|❌|🚫|🛑|✋|"
        "absolutely not|certainly not|definitely not|of course not|not at all|please do not|please don't|pls don't|"
        "please dont"
    ),
    "wait": ("wait|wait wait|hold it|espera|espere|un momento"),
    # Ends the pending action unless it is the pending action.
    "drop": (
        "cancel|cancels|cancelling|canceling|cancelled|call off|delete|remove|cancela|cancelar|cancelala|cancelalo"
    ),
    "hold": (
        "maybe|perhaps|possibly|probably|prob|i guess|i suppose|guess so|suppose so|i think so|i think|think so|"
        "i hope|hopefully|let me check|lemme check|let me think|let me see|let me ask|let me look|let me call|"
        "let me talk|let me confirm|let me get back|get back to you|i'll check|ill check|i'll ask|ill ask|"
        "i'll think|ill think|i will check|i will ask|i will think|i'll let you know|ill let you know|"
        "i need to check|i need to ask|i have to check|i have to ask|i need to think|need to check|need to ask|"
        "gotta check|have to think|i should check|i should ask|checking|not sure|unsure|not certain|"
        "not totally sure|i don't know|i dont know|idk|dunno|dont know|don't know|who knows|we'll see|well see|"
        "we will see|it depends|depends|depending|hold on|hold off|hang on|hang on a sec|one sec|one second|"
        "one moment|one minute|a moment|just a moment|just a sec|give me a|gimme a|gimme|not yet|not now|"
        "not right now|not today|not just yet|later|soon|yeah right|as if|whatever|sure sure|yeah sure|"
        "if you say so|kinda|kind of|sort of|sorta|almost|might|i may|could be|tentatively|provisionally|"
        "eventually|first let me|in a bit|in a minute|undecided|torn|thinking|sleep on it|think about it|"
        "think it over|should i|supposedly|allegedly|theoretically|in theory|hypothetically|pretend|imagine|"
        "suppose|say yes|tal vez|quiza|quizas|puede ser|no se|no estoy seguro|no estoy segura|dejame|deja|dejeme|"
        "creo|creo que si|a lo mejor|todavia no|aun no|🤔|🤷|😕|😐|take your time|take time|take a look|take care|"
        "confirm the time|confirm the date|confirm the address|confirm my address|confirm the details|confirm with|"
        "confirm first"
    ),
    "hmm": ("hmm|hm|hmmm|um|umm|uh|uhh|uhm|er|erm|ehm|mmm|mm|eh"),
    "condition": (
        "if|unless|once|as long as|so long as|provided|providing|only if|only when|assuming|in case|until|till|"
        "after i|when i|when my|when we|as soon as|subject to|pending|contingent|otherwise|or else|si no|"
        "siempre que|cuando"
    ),
    "amend": (
        "instead|something else|for someone else|for somebody else|for anyone else|with someone else|"
        "with somebody else|with anyone else|"
        "rather|change|switch|swap|move|push|shift|reschedule|"
        "different|another|other|others|except|excluding|later than|later in|later time|later one|a bit later|"
        "bit later|earlier|sooner|wrong|incorrect|not right|not correct|not what i|make it|make that|could we do|"
        "can we do|could you do|can you do|can you make|could you make|can we make|could we make|would be better|"
        "would be beter|better|prefer|preferably|i mean|i meant|meant|not that|not this|however|though|although|"
        "second|third|fourth|next|last|first|option|earliest|latest|different one|correction|cambia|cambiar|en vez|"
        "en lugar|otro|otra|mejor|prefiero|correct the|correct my|correct it|change the time|change the date|"
        "change the day|change the slot|change time|change date|change day|switch the time|switch the date|"
        "switch the day|switch times|switch days|move the time|move the date|move the day"
    ),
    "but": ("but|except that|only that|pero|just that|yet|and|&|plus|also and|y"),
    "negation": (
        "not|can't|cant|cannot|won't|wont|wouldn't|wouldnt|doesn't|doesnt|didn't|didnt|isn't|isnt|aren't|arent|"
        "wasn't|wasnt|haven't|havent|hasn't|hasnt|couldn't|couldnt|shouldn't|shouldnt|without|nobody|nothing|"
        "refuse|ain't|aint|tampoco|sin|i'm not|im not|never said"
    ),
    # Negations that may explain a yes as well as refuse: a yes beside one must name its action.
    "soft": (
        "don't need|dont need|no longer need|no longer|not needed|can't make it|cant make it|cannot make it|"
        "don't have|dont have|can't afford|cant afford|don't live|dont live|won't be home|wont be home|not home|"
        "not available|not happy|not going to be"
    ),
    # Negations that are no answer: "i don't care about permits", "don't forget the ladder".
    "aside": (
        "don't care|dont care|don't mind|dont mind|do not mind|don't forget|dont forget|do not forget|don't worry|"
        "dont worry|not only|why not|no one|nobody else|no later|no earlier|no matter|no wonder|not a problem|"
        "not an issue|no doubt|no charge|no fee|no cost"
    ),
    "asked": (
        "what about|how about|isn't that|isnt that|don't you|didn't you|won't it|what|what's|whats|when|when's|who|"
        "who's|whos|where|where's|why|how|how's|hows|how much|how long|which|whose|will it|will they|will you|"
        "will he|will she|will there|does it|does that|does he|do you|do they|do i|do we|is it|is that|is there|"
        "is he|is she|is this|are you|are they|are there|can you|can i|can we|can they|could you|could i|could we|"
        "would you|would it|would that|would they|should i|should we|did you|did it|did they|has it|have you|"
        "isn't it|isnt it|aren't you|que|cual|cuando es|cuanto|como|donde|quien|a que hora|por que|puedo|puedes|"
        "podria|hay"
    ),
    "request": (
        "add|note|leave a|put a|put in|send|text|email|mail|tell|include|write|mention|remind|let|agrega|anade|"
        "anota|avisa"
    ),
    "said": (
        "said|says|say|saying|told|tells|tell|thinks|thought|wrote|writes|claims|asked|asks|replied|answered|quote|"
        "quoted|fwd|forwarded|according|dijo|dice"
    ),
    "address": (
        "address|house number|street|street number|zip|zipcode|zip code|apartment|apt|unit|suite|house no|"
        "direccion|calle"
    ),
    "fix": (
        "wrong|incorrect|should be|should read|changed|typo|misspelled|misspelt|mistake|not right|not correct|fix|"
        "update|updated|correct it|outdated|old|new|moved|actually|it's|its|is actually|isn't right|isn't correct|"
        "equivocada|incorrecta|mal|es"
    ),
}

# An affirmation or a refusal in another language, where it is all that was said.
_BARE = {
    "yes": word_set("y oui ja da sim hai jawohl d'accord naam haan tak evet 是 好 はい да так נכון نعم 네"),
    "no": word_set("n non nein nao não nyet net nie hayir iie いいえ 不 нет لا 아니요"),
}

# Attempts to settle the question without answering it; never a yes, whatever else is said.
_BYPASS = re.compile(
    "|".join(
        (
            r"without (?:asking|confirm|confirmation|a question|further|any (?:question|confirm)|check)",
            r"\b(?:skip|bypass|ignore|disable|override|forego|forgo|omit)\b.{0,30}\b(?:confirm|confirmation|question|check"
            r"|step|approval|rules?|instructions?|prompt|asking)",
            r"\bassum(?:e|ing)\b.{0,25}\b(?:yes|ok|okay|agree|approv|confirm|permission|consent)",
            r"\bin advance\b",
            r"\bpre-?(?:approved?|authori[sz]ed?|confirmed?)\b",
            r"\bstanding (?:permission|approval|order)\b",
            r"\b(?:consider|treat|count|take|interpret|regard)\b.{0,30}\bas\b.{0,15}"
            r"\b(?:yes|confirm|approv|consent|permission|agreed|ok)",
            r"\bno need to (?:ask|confirm|check)\b",
            r"\b(?:don'?t|do not|stop|quit|never) (?:ask|asking|confirm|checking)\b",
            r"\b(?:user|customer|client|caller|owner|he|she|they|admin|manager|supervisor)\b.{0,15}"
            r"\b(?:has|have|had|already|hereby)\b.{0,15}\bconfirm",
            r"\b(?:already|previously|earlier) (?:confirmed|approved|agreed|said yes|consented|gave)\b",
            r"\byou have my (?:permission|consent|approval|ok)\b",
            r"\bauto-?(?:confirm|approve|matic)",
            r"\b(?:system|developer|assistant|admin|user|customer|human|bot|agent|tool|function|instruction|note from)"
            r"\s*(?:message|prompt|override|note)?\s*[:>\]]",
            r"\bfrom now on\b",
            r"\bwhatever (?:i|you) ",
            r"\b(?:each|every) time\b.{0,20}yes",
            r"\bprevious instructions\b",
            r"[{}<>\[\]`]",
            r"\bsin (?:preguntar|confirmar)\b",
        )
    ),
    re.IGNORECASE | re.DOTALL,
)
_QUOTED = re.compile(r"\"[^\"]*\"|“[^”]*”|«[^»]*»|„[^“”]*[“”]|(?:^|(?<=\s))'[^']+'(?=\s|$|[.,!?])|(?m:^\s*>.*$)")
_STREET_ADDRESS = re.compile(
    r"\b\d{1,6}\s+(?:[^\W\d_]+\.?\s+){1,3}"
    r"(?:ln|lane|st|street|ave|avenue|rd|road|dr|drive|ct|court|blvd|way|pl|place|ter|cir|hwy)\b",
    re.IGNORECASE,
)
# A message of more words than this is a story; its yes is asked for again.
_MOST_WORDS = 60


# --- reading --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Word:
    word: str
    start: int
    end: int
    kind: str = "word"  # a row of the table, or: word, verb, label, same, different, stop, comma, ask
    owners: frozenset[int] = frozenset()  # the pending actions that the word names


@dataclass(frozen=True, slots=True)
class _Segment:
    """A piece of the message and what it does; `owners` are the pending actions it names, empty for none of them."""

    act: str
    start: int
    end: int
    owners: frozenset[int] = frozenset()
    named: bool = False  # it names the action by one of its verbs
    slot: bool = False  # it names the restated date or time


_PHRASES: dict[str, list[tuple[tuple[str, ...], str]]] = {}


def _index_phrases(table: Mapping[str, str]) -> None:
    for kind, row in table.items():
        for phrase in row.split("|"):
            parts = tuple(phrase.split())
            if parts:
                _PHRASES.setdefault(parts[0], []).append((parts, kind))
    for entries in _PHRASES.values():
        entries.reverse()
        entries.sort(key=lambda entry: -len(entry[0]))


_index_phrases({kind: row for kind, row in _TABLE.items() if kind not in ("address", "fix", "said", "request")})
_ADDRESS, _FIX, _SAID, _REQUEST = (frozenset(_TABLE[kind].split("|")) for kind in ("address", "fix", "said", "request"))
_FUZZY = ("confirm", "confirmed", "absolutely", "definitely", "correct", "perfect", "certainly", "affirmative")

_LEXEME = re.compile(
    r"(?P<word>[^\W_]+(?:['’_-][^\W_]+)*|&)|(?P<ask>[?？¿])|(?P<stop>[.!;:\n…¡。！]+)|(?P<comma>[,—–]|\s-+\s)"
    r"|(?P<sign>[^\s\w])"
)
_IGNORED_SIGNS = re.compile(r"[\ufe0f\u200d\U0001f3fb-\U0001f3ff]")


def _lexemes(message: str) -> list[_Word]:
    found = []
    for match in _LEXEME.finditer(message):
        text = match.group()
        kind = match.lastgroup or "word"
        if kind == "sign" and (_IGNORED_SIGNS.fullmatch(text) or unicodedata.category(text)[0] in "PM"):
            continue
        word = re.sub(r"([a-z])\1{2,}", r"\1", fold(text)) if kind == "word" else text
        found.append(_Word(word, match.start(), match.end(), "word" if kind in ("word", "sign") else kind))
    return found


@lru_cache(maxsize=4096)
def _stem(word: str) -> str:
    """Without inflection, so that "the measuring" names a measurement."""
    return str(_STEMMER.stemWord(word)) if word.isalpha() else word


_STEMMER = snowballstemmer.stemmer("english")
_POSITIONS = {"first": 0, "1st": 0, "1": 0, "former": 0, "second": 1, "2nd": 1, "2": 1, "third": 2, "3rd": 2, "3": 2}
_POSITIONS |= {
    "primero": 0,
    "primera": 0,
    "segundo": 1,
    "segunda": 1,
    "last": -1,
    "latter": -1,
    "ultimo": -1,
    "ultima": -1,
}
_ENDINGS = frozenset(("", "s", "d", "ed", "ing", "e", "r", "en", "ar", "alo", "ala", "lo", "la"))


def _is_verb(word: str, verb: str) -> bool:
    """ "cancel" is named by "cancelling" and "cancelalo" too."""
    stem = verb.removesuffix("e")
    return word.startswith(stem) and word[len(stem) :].lstrip("l" if stem[-1] == "l" else stem[-1]) in _ENDINGS


def _is_order_number(word: str) -> bool:
    return bool(re.fullmatch(r"(?=.*\d)(?=.*[a-z_])[a-z\d]+(?:[-_][a-z\d]+)+|\d{6,}", word))


def _labels(pending: PendingView) -> frozenset[str]:
    parts = (part for label in pending.labels for part in re.findall(r"[^\W_]+(?:['’_-][^\W_]+)*", fold(label)))
    return frozenset(_stem(part) for part in parts if len(part) > 1 or part.isdigit())


def _marked(message: str, pendings: Sequence[PendingView], today: date) -> list[_Word]:
    """The words of a message with their kinds."""
    words = _with_phrases(_lexemes(message), pendings)
    words = [_named(word, pendings) for word in words]
    return _with_details(words, message, pendings, today)


def _with_phrases(words: Sequence[_Word], pendings: Sequence[PendingView]) -> list[_Word]:
    out: list[_Word] = []
    i = 0
    while i < len(words):
        if words[i].kind != "word":
            out.append(words[i])
            i += 1
            continue
        length, kind = _verb_phrase_at(words, i, pendings) or _phrase_at(words, i)
        last = words[i + length - 1]
        out.append(_Word(" ".join(w.word for w in words[i : i + length]), words[i].start, last.end, kind))
        i += length
    return out


def _verb_phrase_at(words: Sequence[_Word], i: int, pendings: Sequence[PendingView]) -> tuple[int, str] | None:
    """A verb of several words, such as "call off"."""
    for verb in (fold(verb).split() for pending in pendings for verb in pending.verbs):
        if len(verb) > 1 and [w.word for w in words[i : i + len(verb)]] == verb:
            return len(verb), "verb"
    return None


def _phrase_at(words: Sequence[_Word], i: int) -> tuple[int, str]:
    for parts, kind in _PHRASES.get(words[i].word, ()):
        if tuple(w.word for w in words[i : i + len(parts)]) == parts:
            return len(parts), kind
    word = words[i].word
    if len(word) >= 6 and any(
        word[0] == known[0] and OSA.distance(word, known, score_cutoff=1) <= 1 for known in _FUZZY
    ):
        return 1, "yes"
    return 1, "word"


def _named(word: _Word, pendings: Sequence[PendingView]) -> _Word:
    """Mark a word that names an action or an object of a pending action."""
    if word.kind in ("stop", "comma", "ask") or (" " in word.word and word.kind != "verb"):
        return word
    verbs = frozenset(i for i, p in enumerate(pendings) if any(_is_verb(word.word, fold(verb)) for verb in p.verbs))
    if verbs:
        return _Word(word.word, word.start, word.end, "yes" if word.kind == "yes" else "verb", verbs)
    if _is_order_number(word.word) and not any(_stem(word.word) in _labels(p) for p in pendings):
        return _Word(word.word, word.start, word.end, "different")
    if len(pendings) > 1 and word.word in _POSITIONS and _POSITIONS[word.word] < len(pendings):
        position = _POSITIONS[word.word] % len(pendings)
        return _Word(word.word, word.start, word.end, "label", frozenset({position}))
    if word.kind in ("yes", "weak", "no", "filler", "hold", "condition", "but", "negation", "all", "only", "wait"):
        return word
    stem = _stem(word.word)
    owners = frozenset(i for i, p in enumerate(pendings) if stem in _labels(p))
    return _Word(word.word, word.start, word.end, "label", owners) if owners else word


def _with_details(words: Sequence[_Word], message: str, pendings: Sequence[PendingView], today: date) -> list[_Word]:
    """Mark dates and times: "same" where they repeat what was restated, else "different"."""
    spans: list[tuple[int, int, str, frozenset[int]]] = []
    for mention in find_dates(message, today):
        owners = frozenset(
            i for i, p in enumerate(pendings) if isinstance(mention, DateMention) and _same_date(mention, p)
        )
        spans.append((*mention.span, "same" if owners else "different", owners))
    for moment in find_times(message):
        owners = frozenset(i for i, p in enumerate(pendings) if _same_time(moment, p))
        picks = not moment.explicit and len(pendings) > 1 and moment.text in _POSITIONS
        if not picks:
            spans.append((*moment.span, "same" if owners else "different", owners))
    spans += [(*span, "different", frozenset()) for p in pendings for span in _changes(message, p)]
    out = []
    for word in words:
        hit = next((s for s in spans if s[0] < word.end and word.start < s[1]), None)
        if hit is None or word.kind in ("stop", "comma", "ask"):
            out.append(word)
        else:
            out.append(_Word(word.word, word.start, word.end, hit[2], hit[3]))
    return out


def _changes(message: str, pending: PendingView) -> Iterator[tuple[int, int]]:
    """Where a message asks for another action than the one that waits."""
    own = {word for label in pending.labels for word in fold(label).split()}
    for pattern in pending.changes:
        for match in pattern.finditer(message):
            label = match.groupdict().get("label")
            if label is None or fold(label) not in own:
                yield match.span()


def _same_date(mention: DateMention, pending: PendingView) -> bool:
    if mention.relation == "instead_of":
        return bool(pending.dates) and not any(mention.start <= day <= mention.end for day in pending.dates)
    if mention.relation != "on" or mention.weekday_differs:
        return False
    return any(mention.admits(day) for day in pending.dates)


def _same_time(moment: TimeMention, pending: PendingView) -> bool:
    if moment.relation == "instead_of":
        return bool(pending.times) and not any(at in moment.candidates for at in pending.times)
    if moment.relation != "at" or moment.preference != "none":
        return False
    return any(moment.admits(at) for at in pending.times)


# --- segments -------------------------------------------------------------------------------------------------------

_HEAD = frozenset({"yes", "weak", "verb", "object", "label", "same", "all", "only", "filler"})
_SUBJECTS = word_set("i we you he she they it is are be am i'm im we're was were been being to")
_COMPARING = word_set("another other different earlier sooner last next first second better")
_CASUAL = frozenset({"yeah", "yea", "yeh", "yeah yeah"})  # "yeah you people never come" is no yes
_CONTRAST = frozenset({"but", "pero", "except that", "only that", "just that", "yet"})
_FINAL = (
    "forget it",
    "forget that",
    "never mind",
    "nevermind",
    "nvm",
    "keep it",
    "drop it",
    "scrap that",
    "stop",
    "olvidalo",
)
_DETERMINERS = word_set("the my our your that this el la los las")


def _segments(words: Sequence[_Word], count: int) -> list[_Segment]:
    """What the pieces of the message do, in order."""
    segments: list[_Segment] = []
    for piece, asked in _pieces(words):
        segments += _acts(piece, asked, count)
    return segments


def _pieces(words: Sequence[_Word]) -> list[tuple[list[_Word], bool]]:
    """Runs of words between punctuation and conjunctions; each with whether its sentence ends in a question mark."""
    pieces: list[tuple[list[_Word], bool]] = []
    sentence: list[list[_Word]] = [[]]

    def close(*, asked: bool) -> None:
        pieces.extend((piece, asked and piece is _last(sentence)) for piece in sentence if piece)
        sentence[:] = [[]]

    for word in words:
        if word.kind in ("stop", "ask"):
            close(asked=word.kind == "ask")
        elif word.kind == "comma":
            sentence.append([])
        elif word.kind == "but":
            sentence.append([word])
        else:
            sentence[-1].append(word)
    close(asked=False)
    return pieces


def _last(sentence: Sequence[list[_Word]]) -> list[_Word]:
    return next((piece for piece in reversed(sentence) if piece), [])


def _acts(piece: Sequence[_Word], asked: bool, count: int) -> list[_Segment]:
    lead = piece[0].word if piece[0].kind == "but" else ""
    body = list(piece[1:] if lead else piece)
    if not body:
        return [_Segment("contrast", piece[0].start, piece[0].end)] if lead in _CONTRAST else []
    kinds = {word.kind for word in body}
    start, end = piece[0].start, piece[-1].end
    owners, slot = _owners(body, count), "same" in kinds

    def one(act: str, at: int = start) -> list[_Segment]:
        return [_Segment(act, at, end, owners, named=any(map(_names_action, body)), slot=slot)]

    if _corrects_address(body):
        return one("address")
    question = asked or _opens_question(body)
    if "different" in kinds:
        proposes = any(word.word in ("what about", "how about") for word in body)
        only_asks = question and not proposes and not kinds & {"amend", "yes", "verb", "weak"}
        return one("asks_change" if only_asks else "amend")
    if question:
        return one(_kind_of_question(body, kinds))
    if kinds & {"hold", "condition"}:
        return one("hold")
    if "hmm" in kinds:
        others = [word for word in body if word.kind != "hmm"]
        hesitation = _Segment("hmm", start, body[0].end)
        return [hesitation, *(_acts(others, False, count) if others else [])]
    refusal = _refusal(body, kinds, start, end, owners, lead)
    if refusal is not None:
        return refusal
    if kinds & {"yes", "weak", "verb"} and any(word.word in _SAID for word in body):
        return one("hold")
    if "amend" in kinds:
        return one("aside_change" if _is_aside(body) else "amend")
    affirmed = _affirmation(body, start, end, count, owners)
    if affirmed is not None:
        return affirmed
    if kinds <= {"filler", "aside", "hmm"}:
        return one("filler")
    if kinds <= {"object", "label", "same", "filler", "all", "only"}:
        return one("slot" if kinds & {"same", "label", "all"} else "filler")
    return one("contrast" if lead in _CONTRAST else "remark")


def _is_aside(body: Sequence[_Word]) -> bool:
    """ "found another contractor": a word of change about something that is not on the table."""
    at = [i for i, word in enumerate(body) if word.kind == "amend"]
    return all(
        body[i].word in _COMPARING and 0 < i < len(body) - 1 and body[i - 1].kind == body[i + 1].kind == "word"
        for i in at
    )


def _names_action(word: _Word) -> bool:
    """A verb of a pending action, or an affirmation that is one ("confirmed")."""
    return word.kind == "verb" or (word.kind == "yes" and bool(word.owners))


def _owners(body: Sequence[_Word], count: int) -> frozenset[int]:
    """The pending actions a piece names, empty when it names none in particular or contradicts itself."""
    everything = frozenset(range(count))
    left = everything
    for word in body:
        if word.kind in ("verb", "label", "same") or _names_action(word):
            left &= word.owners
    return frozenset() if left == everything else left


def _corrects_address(body: Sequence[_Word]) -> bool:
    text = f" {' '.join(word.word for word in body)} "
    names = any(f" {word} " in text for word in _ADDRESS)
    fixes = any(f" {word} " in text for word in _FIX)
    street = bool(_STREET_ADDRESS.search(text))
    return (names and (fixes or street)) or (street and fixes)


def _opens_question(body: Sequence[_Word]) -> bool:
    opening = [word for word in body if word.kind not in ("filler", "weak", "yes", "hmm")][:1]
    return bool(opening) and opening[0].kind == "asked"


def _kind_of_question(body: Sequence[_Word], kinds: set[str]) -> str:
    after = [word.word for word in body if word.kind not in ("filler", "weak", "yes", "asked", "hmm")][:1]
    if after and after[0] in _REQUEST and "asked" in kinds:
        return "remark"
    if any(word.kind == "amend" and word.word not in _COMPARING for word in body):
        return "amend"
    return "hold" if kinds <= _HEAD | {"hmm", "no"} and "asked" not in kinds else "question"


def _refusal(
    body: Sequence[_Word], kinds: set[str], start: int, end: int, owners: frozenset[int], lead: str
) -> list[_Segment] | None:
    named = any(map(_names_action, body))
    if kinds & {"no", "wait"}:
        at = next(i for i, word in enumerate(body) if word.kind in ("no", "wait"))
        act, tail = body[at].kind, body[at + 1 :]
        no = _Segment(act, start, body[at].end, owners, named)
        told = [word for word in tail if word.kind not in ("filler", "object")]
        if not told or body[at].word.startswith(("don't", "dont", "do not", "never", "leave", "keep")):
            return [_Segment(act, start, end, owners, named)]
        later = {word.kind for word in told}
        if later & {"no", "wait"}:
            return [_Segment("no", start, end, owners, named)]
        wish = "amend" if "amend" in later else "yes" if later & {"verb", "yes", "weak"} else "remark"
        return [no, _Segment(wish, tail[0].start, end)]
    if "drop" in kinds:
        at = next(i for i, word in enumerate(body) if word.kind == "drop")
        if any(word.kind in ("word", "amend") for word in body[at + 1 :]):
            # Something else is to end: a further wish ("and cancel the windows"), or unclear without the "and".
            return [_Segment("remark" if lead or not at else "amend", start, end)]
        return [_Segment("drop", body[at].start, end, owners, named)]
    if "soft" in kinds:
        return [_Segment("softno", start, end, owners, named)]
    if "negation" in kinds:
        at = next(i for i, word in enumerate(body) if word.kind == "negation")
        near = {word.kind for word in body[at + 1 : at + 4]}
        hard = near & {"yes", "weak", "verb", "object", "same", "label"}
        return [_Segment("no" if hard and not _named_before(body, at) else "softno", start, end, owners, named)]
    return None


def _named_before(body: Sequence[_Word], at: int) -> bool:
    return any(word.kind == "verb" for word in body[:at])


def _affirmation(
    body: Sequence[_Word], start: int, end: int, count: int, owners: frozenset[int]
) -> list[_Segment] | None:
    """The yes at the head of a piece, and what follows it as a remark or, where it names something else, a change."""
    length = next((i for i, word in enumerate(body) if word.kind not in _HEAD), len(body))
    head, tail = body[:length], body[length:]
    imperative = any(_is_imperative(head, i) for i, word in enumerate(head) if word.kind == "verb")
    kinds = {word.kind for word in head}
    chosen = count > 1 and (("only" in kinds and "label" in kinds) or (kinds <= {"all", "filler"} and "all" in kinds))
    if not (imperative or chosen or kinds & {"yes", "weak"}):
        return None
    strong = imperative or chosen or "yes" in kinds or ("same" in kinds and "weak" in kinds)
    if tail and not imperative and {word.word for word in head if word.kind in ("yes", "weak")} <= _CASUAL:
        strong = False
    act = "yes" if strong else "weak"
    if "all" in kinds:
        act = "yes_all" if count > 1 else "hold"
    named = any(map(_names_action, head))
    stop = head[-1].end if tail else end
    yes = _Segment(act, start, stop, _owners(head, count), named, "same" in kinds)
    if not tail:
        return [yes]
    if _names_something_else(head, tail):
        return [yes, _Segment("amend", tail[0].start, end)]
    return [yes, _Segment("remark", tail[0].start, end)]


def _is_imperative(head: Sequence[_Word], i: int) -> bool:
    word = head[i].word
    if word.endswith(("ing", "ed")):
        return False
    return i == 0 or head[i - 1].word not in _SUBJECTS or head[i - 1].kind == "yes"


def _names_something_else(head: Sequence[_Word], tail: Sequence[_Word]) -> bool:
    """ "book the windows", "yes the windows", "move it" where none of these words belongs to the pending action."""
    before = head[-1]
    if len(tail) > 1 and tail[1].kind == "object" and tail[1].word in ("it", "that", "this", "them", "those"):
        return True
    after_verb = before.kind == "verb" or (before.word in _DETERMINERS and len(head) > 1 and head[-2].kind == "verb")
    short = len([word for word in tail if word.kind == "word"]) <= 2
    return (after_verb and (short or before.word in _DETERMINERS)) or (
        before.word in ("the", "that", "this", "el", "la") and short
    )


# --- the verdict ----------------------------------------------------------------------------------------------------


def judge(message: str, pendings: Sequence[PendingView], now: datetime, *, channel: Channel = "chat") -> Verdict:
    """How `message` answers the open `pendings`, at `now` (its date is "today"). Never raises on any text."""
    live = [pending for pending in pendings if pending.expires_at > now]
    if not live:
        return Verdict("other", reason="expired" if pendings else "nothing pending")
    everything = tuple(pending.pending_id for pending in live)
    plain = message.strip()
    if not plain:
        return Verdict("other", reason="empty")
    foreign = _in_another_language(plain)
    if foreign:
        plain = foreign
    if _BYPASS.search(plain.replace("’", "'")):
        return Verdict("hold", everything, reason="asks to do without the question")
    unquoted = _QUOTED.sub(lambda m: " ; " + " " * (len(m.group()) - 3) if len(m.group()) > 3 else m.group(), plain)
    words = _marked(unquoted, live, now.date())
    verdict = _weigh(_segments(words, len(live)), plain, live, channel, long=len(words) > _MOST_WORDS)
    if verdict.confirms and _withdrawn_in_quotes(plain, live, now.date()):
        return Verdict("hold", everything, reason="the quoted part says otherwise")
    if verdict.confirms and _has_other_script(plain):
        return Verdict("hold", everything, reason="partly in a script that is not read")
    return verdict


def _withdrawn_in_quotes(message: str, live: Sequence[PendingView], today: date) -> bool:
    """Whether a quoted part, which cannot say yes, says anything against it."""
    against = {"different", "no", "wait", "drop", "hold", "condition", "amend", "negation"}
    quoted = " ; ".join(match.group().strip("\"“”«»„'> ") for match in _QUOTED.finditer(message))
    return any(word.kind in against for word in _marked(quoted, live, today))


def _has_other_script(message: str) -> bool:
    return any(letter.isalpha() and not unicodedata.name(letter, "").startswith("LATIN") for letter in message)


def _in_another_language(message: str) -> str:
    """A yes or no of a few other languages, where nothing else is said."""
    bare = fold(message).strip(" .!¡,。！")
    return next((kind for kind, spoken in _BARE.items() if bare in spoken or message.strip(" .!。！") in spoken), "")


def _weigh(
    segments: Sequence[_Segment], message: str, live: Sequence[PendingView], channel: Channel, *, long: bool
) -> Verdict:
    everything = tuple(pending.pending_id for pending in live)
    told = [segment for segment in segments if segment.act not in ("filler",)]
    acts = [segment.act for segment in told if segment.act != "hmm"] or ["hmm"]
    yes = [s for s in told if s.act in ("yes", "yes_all")]
    if not told:
        return Verdict("other", reason="says nothing about it")
    if acts[0] in ("no", "wait", "drop"):
        return _declined([segment for segment in told if segment.act != "hmm"], message, live)
    if {"no", "drop"} & set(acts) and not {"yes", "yes_all", "weak", "amend", "question", "asks_change"} & set(acts):
        # A no beside hesitation is a no: dropping a question writes nothing, keeping it might.
        return _declined([segment for segment in told if segment.act in ("no", "drop")], message, live)
    hesitates = any(segment.act == "hmm" for segment in told)
    if "hold" in acts or (hesitates and not any(segment.named for segment in yes)):
        return Verdict("hold", everything, reason="undecided")
    if any(act in ("no", "wait", "drop") for act in acts):
        return _yes_and_no(told, yes, message, live, channel)
    if "softno" in acts and not any(segment.named for segment in yes):
        return Verdict("hold", everything, reason="a negation beside the answer")
    if "address" in acts and not {"amend", "asks_change", "question"} & set(acts):
        return _with_address(told, yes, message, live, channel)
    explicit = any(segment.named for segment in yes)
    if "amend" in acts or ("aside_change" in acts and not explicit) or ("asks_change" in acts and yes):
        return Verdict("amend", everything, _rest(told, message), "another detail")
    if "question" in acts or "asks_change" in acts:
        return Verdict("question", everything, _rest(told, message), "asks something first")
    if "contrast" in acts:
        return Verdict("hold", everything, _rest(told, message), "a reservation")
    if long and yes:
        return Verdict("hold", everything, reason="too long for a plain yes")
    if yes or acts[0] == "weak":
        return _confirmed(told, yes, message, live, channel)
    if set(acts) & {"slot", "hmm"}:
        return Verdict("hold", everything, reason="repeats the detail without a yes")
    return Verdict("other", rest=message, reason="no answer to it")


def _declined(told: Sequence[_Segment], message: str, live: Sequence[PendingView]) -> Verdict:
    everything = tuple(pending.pending_id for pending in live)
    refused = [s for s in told if s.act in ("no", "wait", "drop")]
    agreed = [s for s in told if s.act in ("yes", "yes_all", "weak")]
    if "hold" in {s.act for s in told} and all(s.act == "wait" for s in refused):
        return Verdict("hold", everything, reason="undecided")
    if agreed and not (agreed[0].owners and refused[0].owners and not agreed[0].owners & refused[0].owners):
        return Verdict("hold", everything, reason="both yes and no")
    if agreed:
        return Verdict("hold", everything, _rest(told, message), "yes and no to different ones, the no first")
    ids = _ids(refused[0].owners, live) or everything
    wishes = [s for s in told if s.act in ("amend", "asks_change", "question", "remark", "address", "slot")]
    if wishes and all(s.act == "wait" for s in refused) and any(s.act == "question" for s in wishes):
        return Verdict("question", everything, message[wishes[0].start :].strip(), "asks something first")
    drop = next((s for s in refused if s.act == "drop"), None)
    start = min(
        (s.start for s in (*wishes, *([drop] if drop and message[: drop.start].strip() else ()))), default=len(message)
    )
    rest = _trimmed(message[start:])
    final = any(phrase in fold(message[s.start : s.end]) for s in refused for phrase in _FINAL)
    if not final and any(s.act in ("amend", "asks_change") for s in wishes):
        return Verdict("amend", ids, rest, "declined for another detail")
    return Verdict("decline", ids, rest, "an explicit no")


def _yes_and_no(
    told: Sequence[_Segment], yes: Sequence[_Segment], message: str, live: Sequence[PendingView], channel: Channel
) -> Verdict:
    """A no after something else: to another pending action ("yes the first, leave the other"), or a change of mind."""
    everything = tuple(pending.pending_id for pending in live)
    no = next(s for s in told if s.act in ("no", "wait", "drop"))
    agreed = frozenset().union(*(s.owners for s in yes)) if yes else frozenset()
    if yes and agreed and not (agreed & no.owners) and len(live) > 1:
        others = {s.act for s in told} - {"yes", "no", "drop", "remark", "weak"}
        if not others:
            return _confirmed(
                [s for s in told if s.act in ("yes", "weak")], yes, message, live, channel, rest=message[no.start :]
            )
        return Verdict("hold", everything, reason="more than a yes and a no")
    if yes and any(s.named for s in yes) and no.act != "drop":
        return Verdict("hold", everything, reason="both yes and no")
    ids = _ids(no.owners, live) or everything
    after = [s for s in told if s.start > no.start and s.act not in ("no", "wait")]
    changes = any(s.act in ("amend", "asks_change") for s in told)
    if any(s.act in ("yes", "yes_all", "weak") for s in after):
        return Verdict("hold", everything, reason="both yes and no")
    start = no.start if no.act == "drop" else after[0].start if after else len(message)
    return Verdict("amend" if changes else "decline", ids, _trimmed(message[start:]), "an explicit no")


def _with_address(
    told: Sequence[_Segment], yes: Sequence[_Segment], message: str, live: Sequence[PendingView], channel: Channel
) -> Verdict:
    start = next(s.start for s in told if s.act == "address")
    rest = _trimmed(message[start:])
    if not yes:
        return Verdict("address_correction", (), rest, "corrects the address without a yes")
    verdict = _confirmed([s for s in told if s.act != "address"], yes, message, live, channel)
    if verdict.kind != "confirm":
        return verdict
    return Verdict("address_correction", verdict.pending_ids, rest, "a yes and a correction of the address")


def _confirmed(
    told: Sequence[_Segment],
    yes: Sequence[_Segment],
    message: str,
    live: Sequence[PendingView],
    channel: Channel,
    rest: str | None = None,
) -> Verdict:
    """The verdict on a message that says yes and nothing against it: to which ones, and is it explicit enough."""
    everything = tuple(pending.pending_id for pending in live)
    repeats = any(s.slot for s in told)
    if not yes and any(s.act not in ("weak", *(("slot",) if repeats else ())) for s in told):
        return Verdict("other", rest=_rest(told, message), reason="goes on to something else")
    agreeing = yes or [s for s in told if s.act == "weak"]
    owners = _chosen([*agreeing, *(s for s in told if s.act == "slot")], len(live))
    if owners is None:
        return Verdict("hold", everything, reason="does not say which one")
    named, slot = any(s.named for s in agreeing), any(s.slot for s in agreeing)
    if channel != "chat" and not named:
        return Verdict("hold", everything, reason="a bare yes does not name the action on this channel")
    if not all(live[i].restated_last for i in owners) and not (named and slot):
        return Verdict("hold", everything, reason="not the last thing that was asked")
    remains = _rest(told, message) if rest is None else _trimmed(rest)
    return Verdict("confirm", _ids(owners, live), remains, "an explicit yes")


def _chosen(agreeing: Sequence[_Segment], count: int) -> frozenset[int] | None:
    """Which pending actions the yes means; None when it leaves that open."""
    if count == 1:
        return frozenset({0})
    named = [s.owners for s in agreeing if s.owners]
    if named:
        return frozenset().union(*named)
    return frozenset(range(count)) if any(s.act == "yes_all" for s in agreeing) else None


def _ids(owners: Iterable[int], live: Sequence[PendingView]) -> tuple[UUID, ...]:
    return tuple(live[i].pending_id for i in sorted(owners))


def _rest(told: Sequence[_Segment], message: str) -> str:
    """The message from the first piece on that is neither yes nor no."""
    start = next((s.start for s in told if s.act not in ("yes", "yes_all", "weak", "no", "wait", "slot", "hmm")), None)
    return "" if start is None else _trimmed(message[start:])


def _trimmed(rest: str) -> str:
    """Without the conjunctions and punctuation that joined it to what came before."""
    return re.sub(r"^(?:[\s,.;:!–—-]+|(?:and|but|also|y|pero|so)\b(?!-))+", "", rest, flags=re.IGNORECASE).strip()
