"""Objects of an S3 bucket, or of any server that speaks S3 (MinIO and others: AWS_ENDPOINT_URL_S3)."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from urllib.parse import quote, unquote_plus, urlencode, urlsplit
from xml.etree import ElementTree

import aiohttp
from yarl import URL

from knowledge_base.aws import Aws, AwsUnusable
from knowledge_base.documents import Found, Raw
from knowledge_base.errors import InvalidRequest, Refused, SourceUnavailable
from knowledge_base.sources.base import MAX_SIDECAR, SIDECAR
from knowledge_base.sources.http_body import body_within

PAUSES_S = (0.2, 0.5, 1.0, 2.0)
MAX_LISTING = 20_000_000  # bytes of one page
MAX_ERROR = 10_000
NO_S3 = "what answers there does not speak S3"
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_BUSY = (429, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class _Object:
    key: str
    size: int
    etag: str


class _Answer(Exception):
    """An answer that is no success, with the code that S3 gives it."""

    def __init__(self, status: int, code: str, region: str) -> None:
        super().__init__(f"{status} {code}")
        self.status = status
        self.code = code
        self.region = region


class Bucket:
    """`s3://bucket/folder`: the objects below a folder, or one object. `doc_id` is the key below the folder.

    Region, credentials and endpoint are those of AWS's usual environment and files.
    """

    def __init__(
        self, url: str, *, max_bytes: int, name: str = "", pauses_s: Sequence[float] = PAUSES_S, aws: Aws | None = None
    ) -> None:
        self._bucket, self._prefix = _parts(url)
        self.name = name or f"s3://{self._bucket}/{self._prefix}".rstrip("/")
        self._max_bytes = max_bytes
        self._pauses_s = pauses_s
        self._aws = aws or Aws("s3")
        self._base = ""
        self._session: aiohttp.ClientSession | None = None

    async def list(self) -> AsyncIterator[Found]:
        """In order of the keys. Hidden ones (a part begins with a dot), folders and sidecars are left out."""
        waiting: dict[str, _Object] = {}  # objects whose sidecar may still come
        last = ""
        async for each in self._objects():
            if each.key.encode() < last.encode():
                raise SourceUnavailable(f"{self.name}: keys are not listed in order (a directory bucket?)")
            last = each.key
            for key in [key for key in waiting if (key + SIDECAR).encode() < each.key.encode()]:
                yield self._found(waiting.pop(key), None)
            if each.key.endswith(SIDECAR):
                if document := waiting.pop(each.key.removesuffix(SIDECAR), None):
                    yield self._found(document, each)
            elif not self._is_hidden(each.key):
                waiting[each.key] = each
        for each in waiting.values():
            yield self._found(each, None)

    async def read(self, found: Found, *, known_stamp: str = "") -> Raw:
        """The object and its sidecar, as they were listed; `changed` when there is another now."""
        key = found.uri.removeprefix(f"s3://{self._bucket}/")
        if found.size is not None and found.size > self._max_bytes:
            raise Refused("too_large", f"{found.size} bytes; up to {self._max_bytes} are taken")
        etag, _, beside = found.stamp.partition(" ")
        content, media_type = await self._object(key, etag, self._max_bytes)
        sidecar = None
        if beside:
            try:
                sidecar, _ = await self._object(key + SIDECAR, beside, MAX_SIDECAR)
            except Refused as refused:
                raise Refused(refused.reason, f"its sidecar: {refused}") from refused
        return Raw(replace(found, size=len(content)), content, media_type, sidecar)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _objects(self) -> AsyncIterator[_Object]:
        asked = {"list-type": "2", "prefix": self._prefix, "encoding-type": "url"}
        more: str | None = ""
        while more is not None:
            page = await self._page(asked | ({"continuation-token": more} if more else {}))
            for each in page.iterfind("{*}Contents"):
                key = unquote_plus(_said(each, "Key"))
                if not self._prefix or key == self._prefix or key.startswith(self._prefix.rstrip("/") + "/"):
                    yield _Object(key, self._size(each), _said(each, "ETag").strip('"'))
            is_last = _said(page, "IsTruncated") != "true"
            more = None if is_last else _said(page, "NextContinuationToken")
            if more == "":
                raise SourceUnavailable(f"{self.name}: its list breaks off, and does not say where it goes on")

    def _size(self, element: ElementTree.Element) -> int:
        text = _said(element, "Size")
        if not re.fullmatch("[0-9]{1,18}", text):
            raise SourceUnavailable(f"{self.name}: a list of it has no size for {_said(element, 'Key')[:200]!r}")
        return int(text)

    async def _page(self, asked: Mapping[str, str]) -> ElementTree.Element:
        try:
            async with self._get("", asked) as response:
                body = await body_within(response, MAX_LISTING)
            page = ElementTree.fromstring(body)  # noqa: S314 (short, and expat bounds what entities may become)
        except _Answer as answer:
            raise SourceUnavailable(f"{self.name}: {_listing_trouble(answer, self._aws.region)}") from answer
        except (AwsUnusable, Refused) as error:
            raise SourceUnavailable(f"{self.name}: {error}") from error
        except ElementTree.ParseError as error:
            raise SourceUnavailable(f"{self.name}: {NO_S3}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise SourceUnavailable(f"{self.name}: the server does not answer ({type(error).__name__})") from error
        if page.tag.rpartition("}")[2] != "ListBucketResult":
            raise SourceUnavailable(f"{self.name}: {NO_S3}")
        return page

    async def _object(self, key: str, etag: str, max_bytes: int) -> tuple[bytes, str]:
        try:
            async with self._get(key, {}, {"if-match": f'"{etag}"'} if etag else {}) as response:
                return await body_within(response, max_bytes), response.headers.get("content-type", "")[:200]
        except _Answer as answer:
            if answer.status in (404, 412):
                raise Refused("changed", "the object changed after it was listed; the next run takes it") from answer
            if answer.status == 403:
                raise Refused("unreachable", f"S3 does not allow to read it ({answer.code}); s3:GetObject is needed"
                              ) from answer  # fmt: skip
            raise Refused("unreachable", f"S3 answers {answer}") from answer
        except AwsUnusable as error:
            raise Refused("unreachable", str(error)) from error
        except TimeoutError as error:
            raise Refused("timeout", "did not come in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Refused("unreachable", f"the server does not answer ({type(error).__name__})") from error

    @asynccontextmanager
    async def _get(
        self, key: str, query: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A successful answer; what S3 is too busy for is asked again, more slowly each time."""
        session = await self._open()
        for pause_s in (*self._pauses_s, None):
            url = f"{self._base}/{quote(key, safe='/~')}" + (f"?{urlencode(query, quote_via=quote)}" if query else "")
            signed = await self._aws.headers("GET", url, b"", {"accept-encoding": "identity", **(headers or {})})
            try:
                response = await session.get(URL(url, encoded=True), headers=signed, allow_redirects=False)
            except (aiohttp.ClientConnectionError, TimeoutError):
                if pause_s is None:
                    raise
            else:
                async with response:
                    if response.status == 200:
                        yield response
                        return
                    if response.status not in _BUSY or pause_s is None:
                        raise await _answer(response)
            await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))

    async def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            await self._aws.open()
            self._base = _address(self._aws.url, self._bucket)
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=True,
            )
        return self._session

    def _is_hidden(self, key: str) -> bool:
        return key.endswith("/") or any(part.startswith(".") for part in self._below(key).split("/"))

    def _below(self, key: str) -> str:
        """The key as it is below the folder; of a single object its name."""
        if key == self._prefix:
            return key.rpartition("/")[2]
        return key.removeprefix(self._prefix.rstrip("/") + "/") if self._prefix else key

    def _found(self, each: _Object, sidecar: _Object | None) -> Found:
        stamp = f"{each.etag} {sidecar.etag}" if sidecar else each.etag
        uri = f"s3://{self._bucket}/{each.key}"
        return Found(self._below(each.key), uri, PurePosixPath(each.key).name, each.size, stamp)


def _parts(url: str) -> tuple[str, str]:
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    if not url.startswith("s3://") or not _NAME.fullmatch(bucket):
        raise InvalidRequest("source.url", "must look like s3://bucket/folder")
    return bucket, prefix


def _address(service: str, bucket: str) -> str:
    """With the bucket in the host where it is AWS and the certificate covers it, else in the path."""
    parts = urlsplit(service)
    if (parts.hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn")) and "." not in bucket:
        return f"{parts.scheme}://{bucket}.{parts.netloc}"
    return f"{service}/{bucket}"


async def _answer(response: aiohttp.ClientResponse) -> _Answer:
    text = (await response.content.read(MAX_ERROR)).decode("utf-8", "replace")
    found = re.search(r"<Code>(\w{1,60})</Code>", text)
    region = re.fullmatch(r"[a-z0-9-]{1,30}", response.headers.get("x-amz-bucket-region", ""))
    return _Answer(response.status, found[1] if found else "", region[0] if region else "")


def _listing_trouble(answer: _Answer, region: str) -> str:
    if answer.code == "NoSuchBucket":
        return "there is no such bucket"
    if answer.status in (301, 307, 400) and answer.region and answer.region != region:
        return f"the bucket is in {answer.region}, and was asked for in {region}: set AWS_REGION={answer.region}"
    if answer.code in ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"):
        return f"S3 refuses the credentials ({answer.code}); check AWS_PROFILE or AWS_ACCESS_KEY_ID and its secret"
    if answer.status == 403:
        return f"S3 does not allow to list it ({answer.code or 403}); s3:ListBucket is needed"
    if answer.status in _BUSY:
        return f"S3 is too busy ({answer}), also after {len(PAUSES_S)} more tries"
    return f"S3 answers {answer}"


def _said(element: ElementTree.Element, name: str) -> str:
    return element.findtext(f"{{*}}{name}") or ""
