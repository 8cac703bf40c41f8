"""What a client asks of a knowledge base, read from the bodies of Bedrock's operations.

Members that nobody knows are left aside, as newer clients send them. Those that AWS knows and that are not offered
here are refused wherever leaving them out would change the answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from agent.errors import InvalidRequest
from knowledge_base.filters import Filter, read_filter
from knowledge_base.retrieval.base import Mode

USUAL_RESULTS = 5
MAX_RESULTS = 100
_BASE = re.compile(r"(?:arn:aws[a-z-]*:bedrock:[a-z0-9-]{1,20}:[0-9]{12}:knowledge-base/)?([0-9a-zA-Z]{10})")
_MODES: Mapping[str, Mode] = {"HYBRID": "hybrid", "SEMANTIC": "vector"}
_SEARCH_RESULTS = "$search_results$"


@dataclass(frozen=True, slots=True)
class Retrieval:
    """How to search. `user`: as whom, if not as the caller."""

    k: int = USUAL_RESULTS
    mode: Mode = "hybrid"
    where: Filter | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True)
class RetrieveRequest:
    """A body of Retrieve."""

    query: str
    retrieval: Retrieval
    next_token: str | None


@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """A body of RetrieveAndGenerate, and of its streaming form. `template` is the caller's own prompt."""

    text: str
    base: str
    model: str
    retrieval: Retrieval
    session_id: str | None
    template: str | None


def read_retrieve(body: bytes) -> RetrieveRequest:
    """`InvalidRequest` names the field as AWS calls it."""
    read = _read(_Retrieve, body)
    _refuse("", read, "guardrail_configuration", "is not offered: no guardrails are configured here")
    query = read.retrieval_query
    _refuse("retrievalQuery", query, "image", "is not offered: queries are text")
    if query.type == "IMAGE" or query.text is None:
        raise _invalid("retrievalQuery.text", "is needed: queries are text")
    if not query.text.strip():
        raise _invalid("retrievalQuery.text", "must not be empty")
    user = read.user_context.user_id if read.user_context else None
    retrieval = _retrieval(read.retrieval_configuration, "retrievalConfiguration", user)
    return RetrieveRequest(query.text, retrieval, read.next_token)


def read_answer(body: bytes) -> AnswerRequest:
    """`InvalidRequest` names the field as AWS calls it."""
    read = _read(_RetrieveAndGenerate, body)
    configured = read.retrieve_and_generate_configuration
    place = "retrieveAndGenerateConfiguration"
    if read.session_configuration is not None:
        raise _invalid("sessionConfiguration", "is not offered: sessions are kept without a key of yours")
    if configured is None:
        raise _invalid(place, "is needed")
    if configured.type == "EXTERNAL_SOURCES" or configured.external_sources_configuration is not None:
        raise _invalid(f"{place}.externalSourcesConfiguration", "is not offered: load documents into a knowledge base")
    base = configured.knowledge_base_configuration
    if base is None:
        raise _invalid(f"{place}.knowledgeBaseConfiguration", "is needed")
    place += ".knowledgeBaseConfiguration"
    if base.orchestration_configuration:
        raise _invalid(f"{place}.orchestrationConfiguration", "is not offered: the question is searched as it is")
    if not read.input.text.strip():
        raise _invalid("input.text", "must not be empty")
    return AnswerRequest(
        text=read.input.text,
        base=knowledge_base(base.knowledge_base_id, f"{place}.knowledgeBaseId"),
        model=base.model_arn,
        retrieval=_retrieval(
            base.retrieval_configuration,
            f"{place}.retrievalConfiguration",
            read.user_context.user_id if read.user_context else None,
        ),
        session_id=read.session_id,
        template=_template(base.generation_configuration, f"{place}.generationConfiguration"),
    )


def knowledge_base(name: str, field: str = "knowledgeBaseId") -> str:
    """The id in what may be an ARN."""
    if not (found := _BASE.fullmatch(name)):
        raise _invalid(field, "must be the ten letters and digits of a knowledge base's id, or its ARN")
    return found[1].upper()


def model_name(arn: str) -> str:
    """What a model's ARN names, or an inference profile's; any other text as it is."""
    head, _, rest = arn.partition("/")
    return rest if rest and head.startswith("arn:") else arn


# --- bodies -----------------------------------------------------------------------------------------------------------


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, alias_generator=to_camel)


class _User(_Part):
    user_id: Annotated[str, Field(min_length=1, max_length=200)]


class _Query(_Part):
    text: Annotated[str, Field(max_length=20_000)] | None = None
    type: Literal["TEXT", "IMAGE"] | None = None
    image: Any = None


class _VectorSearch(_Part):
    number_of_results: Annotated[int, Field(ge=1, le=MAX_RESULTS)] | None = None
    override_search_type: Literal["HYBRID", "SEMANTIC"] | None = None
    filter: Any = None
    reranking_configuration: Any = None
    implicit_filter_configuration: Any = None


class _Retrieval(_Part):
    vector_search_configuration: _VectorSearch | None = None
    managed_search_configuration: Any = None


class _Retrieve(_Part):
    retrieval_query: _Query
    retrieval_configuration: _Retrieval | None = None
    next_token: Annotated[str, Field(min_length=1, max_length=2048)] | None = None
    guardrail_configuration: Any = None
    user_context: _User | None = None


class _Input(_Part):
    text: Annotated[str, Field(max_length=1000)]


class _Template(_Part):
    text_prompt_template: Annotated[str, Field(min_length=1, max_length=4000)] | None = None


class _Performance(_Part):
    latency: Literal["standard", "optimized"] | None = None


class _Inference(_Part):
    text_inference_config: dict[str, Any] | None = None


class _Generation(_Part):
    prompt_template: _Template | None = None
    inference_config: _Inference | None = None
    performance_config: _Performance | None = None
    guardrail_configuration: Any = None
    additional_model_request_fields: dict[str, Any] | None = None


class _Base(_Part):
    knowledge_base_id: Annotated[str, Field(max_length=2048)]
    model_arn: Annotated[str, Field(min_length=1, max_length=2048)]
    retrieval_configuration: _Retrieval | None = None
    generation_configuration: _Generation | None = None
    orchestration_configuration: dict[str, Any] | None = None


class _Configuration(_Part):
    type: Literal["KNOWLEDGE_BASE", "EXTERNAL_SOURCES"]
    knowledge_base_configuration: _Base | None = None
    external_sources_configuration: Any = None


class _RetrieveAndGenerate(_Part):
    input: _Input
    retrieve_and_generate_configuration: _Configuration | None = None
    session_id: Annotated[str, Field(pattern=r"^[0-9a-zA-Z._:-]{2,100}$")] | None = None
    session_configuration: Any = None
    user_context: _User | None = None


# --- reading them -----------------------------------------------------------------------------------------------------

Body = TypeVar("Body", bound=_Part)


def _read(kind: type[Body], body: bytes) -> Body:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _invalid("body", "is no JSON in UTF-8") from error
    if not isinstance(parsed, dict):
        raise _invalid("body", "must be an object")
    if "\x00" in "".join(_texts(parsed)):
        raise _invalid("body", "must hold no NUL characters")
    try:
        return kind.model_validate(parsed)
    except ValidationError as error:
        first, *others = error.errors(include_url=False)
        place = ".".join(str(part) for part in first["loc"])
        more = f" ({len(others)} more)" if others else ""
        raise _invalid(place, f"{first['msg'][0].lower()}{first['msg'][1:]}{more}") from error


def _texts(value: Any) -> Iterator[str]:
    """All texts inside, keys too. Without recursion: a body may be nested deeper than Python's stack."""
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, dict):
            left += [*each.keys(), *each.values()]
        elif isinstance(each, list):
            left += each


def _retrieval(given: _Retrieval | None, place: str, user: str | None) -> Retrieval:
    if given is None:
        return Retrieval(user=user)
    _refuse(place, given, "managed_search_configuration", "is not offered; use vectorSearchConfiguration")
    search = given.vector_search_configuration
    if search is None:
        return Retrieval(user=user)
    place += ".vectorSearchConfiguration"
    _refuse(place, search, "reranking_configuration", "is not offered: no reranking model is configured")
    _refuse(place, search, "implicit_filter_configuration", "is not offered; give a filter")
    where = None if search.filter is None else read_filter(search.filter, f"{place}.filter")
    return Retrieval(
        search.number_of_results or USUAL_RESULTS, _MODES[search.override_search_type or "HYBRID"], where, user
    )


def _template(given: _Generation | None, place: str) -> str | None:
    if given is None:
        return None
    _refuse(place, given, "guardrail_configuration", "is not offered: no guardrails are configured here")
    if given.performance_config and given.performance_config.latency == "optimized":
        raise _invalid(f"{place}.performanceConfig.latency", "must be standard")
    if given.additional_model_request_fields:
        raise _invalid(f"{place}.additionalModelRequestFields", "is set where the model is configured, by `options`")
    sampling = given.inference_config.text_inference_config if given.inference_config else None
    for name, value in (sampling or {}).items():
        if value is not None:
            where = f"{place}.inferenceConfig.textInferenceConfig.{name}"
            raise _invalid(where, "is set where the model is configured, by `options`")
    template = given.prompt_template.text_prompt_template if given.prompt_template else None
    if template is not None and _SEARCH_RESULTS not in template:
        raise _invalid(f"{place}.promptTemplate.textPromptTemplate", f"must contain {_SEARCH_RESULTS}")
    return template


def _refuse(place: str, part: _Part, member: str, why: str) -> None:
    if getattr(part, member) is not None:
        raise _invalid(f"{place}.{to_camel(member)}".lstrip("."), why)


def _invalid(field: str, problem: str) -> InvalidRequest:
    return InvalidRequest(f"{field}: {problem}", field=field, user_hint=problem)
