"""Requests to an AWS service as it wants them: botocore's credentials, for sockets of our own.

Shared by Lambda, Bedrock models and Bedrock agents. boto3 itself waits in a thread per call, and its signer takes four
times as long as this one: it derives the day's key anew each time.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from botocore.credentials import Credentials, RefreshableCredentials
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.session import Session
from yarl import URL

from tools.signing import signature

SIGNED_AT_ONCE = 4
# Credentials that are good for less have to be renewed, as botocore has it; others may be, if not at every request.
GOOD_ENOUGH_S = 600
RENEWED_EVERY_S = 30.0
_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")


class AwsError(Exception):
    """AWS cannot be called as things are set; the message says what is missing and what to do, and holds no secret."""


class AwsUnreachable(AwsError):
    """Whoever hands out credentials does not answer just now."""


class AwsService:
    """One service in one region. `service` is the name in its host (`bedrock-runtime`).

    `signing_name` is the name that requests are signed for, where it is another one (`bedrock`). `api_key` is a bearer
    token that takes the place of credentials and signature.
    """

    def __init__(
        self,
        service: str,
        *,
        signing_name: str = "",
        region: str | None = None,
        profile: str | None = None,
        endpoint_url: str | None = None,
        api_key: str = "",
    ) -> None:
        self.service = service
        self.region = region
        self.url = ""  # known once opened; ends without a slash
        self._signing_name = signing_name or service
        self._profile = profile
        self._endpoint = endpoint_url
        self._api_key = api_key
        self._credentials: Any = None
        self._held: Any = None  # the credentials last used
        self._renewable_at = 0.0
        self._signing = asyncio.Semaphore(SIGNED_AT_ONCE)
        self._refreshing = asyncio.Lock()

    async def open(self) -> None:
        """Find region, endpoint and credentials by AWS's usual chain, off the loop; `AwsError` says what is missing."""
        try:
            await asyncio.to_thread(self._configure)
        except (BotoCoreError, ClientError) as error:
            raise AwsError(f"{_said(error)}; check AWS_PROFILE and the files in ~/.aws") from error

    def move(self, endpoint_url: str) -> None:
        """Call it there, once it is opened."""
        self._endpoint = endpoint_url

    async def signed(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> dict[str, str]:
        """The headers with those that prove who asks.

        `headers` have names in lower case; `url` is encoded as it is sent, and has no query.

        Raises `AwsError` when credentials that expire cannot be renewed.
        """
        address = URL(url, encoded=True)
        whole = {**headers, "host": address.authority}
        if self._api_key:
            return {**whole, "authorization": f"Bearer {self._api_key}"}
        async with self._signing:
            credentials = await self._frozen()
            if credentials is None:  # a stand-in that wants none
                return whole
            whole["x-amz-date"] = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
            if credentials.token:
                whole["x-amz-security-token"] = credentials.token
            scope = f"{whole['x-amz-date'][:8]}/{self.region}/{self._signing_name}/aws4_request"
            names, proven = signature(credentials.secret_key, scope, method, address.raw_path, whole, body)
            # All that starts with a request, two hundred times in a row, would hold up everything else.
            await asyncio.sleep(0)
        proof = f"Credential={credentials.access_key}/{scope}, SignedHeaders={names}, Signature={proven}"
        return {**whole, "authorization": f"AWS4-HMAC-SHA256 {proof}"}

    def _configure(self) -> None:
        session = Session(profile=self._profile)
        self.region = self.region or os.environ.get("AWS_REGION") or session.get_config_variable("region")
        own = f"AWS_ENDPOINT_URL_{self.service.upper().replace('-', '_')}"
        endpoint = self._endpoint or os.environ.get(own) or os.environ.get("AWS_ENDPOINT_URL") or ""
        if not endpoint and not self.region:
            raise AwsError("no region; set `region`, or AWS_REGION")
        self.region = self.region or "us-east-1"
        is_near = _address(endpoint).host in _THIS_MACHINE
        if self._api_key and endpoint.startswith("http:") and not is_near:
            raise AwsError("an API key is not sent without TLS; use https in the endpoint's address")
        if not self._api_key:
            self._credentials = _own_credentials() if is_near and not self._profile else session.get_credentials()
            if self._credentials is None and not endpoint:
                raise AwsError(
                    "no AWS credentials; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run where "
                    "a role is attached"
                )
        if not endpoint:
            found = session.get_component("endpoint_resolver").construct_endpoint(self.service, self.region)
            endpoint = f"https://{found['hostname'] if found else f'{self.service}.{self.region}.amazonaws.com'}"
        self.url = endpoint.rstrip("/")

    async def _frozen(self) -> Any:
        """The credentials as they are now; asking for new ones may take a server's time."""
        source = self._credentials
        if source is None:
            return None
        if not (isinstance(source, RefreshableCredentials) and source.refresh_needed()):
            self._held = source.get_frozen_credentials()
        elif self._must_renew(source):
            async with self._refreshing:
                if self._must_renew(source):  # nobody has while we waited
                    await self._renew(source)
        elif not self._refreshing.locked() and self._may_renew():
            # Those at hand are still good: the others go on with them, and so does this one if it fails.
            async with self._refreshing:
                if self._may_renew():
                    with suppress(AwsError):
                        await self._renew(source)
        return self._held

    def _must_renew(self, source: RefreshableCredentials) -> bool:
        return self._held is None or source.refresh_needed(GOOD_ENOUGH_S)

    def _may_renew(self) -> bool:
        return time.monotonic() >= self._renewable_at

    async def _renew(self, source: RefreshableCredentials) -> None:
        self._renewable_at = time.monotonic() + RENEWED_EVERY_S
        try:
            self._held = await asyncio.to_thread(source.get_frozen_credentials)
        except HTTPClientError as error:
            raise AwsUnreachable(f"AWS credentials cannot be renewed: {type(error).__name__}") from error
        except (BotoCoreError, ClientError) as error:
            raise AwsError(f"AWS credentials cannot be renewed ({_said(error)}); sign in again") from error


def _address(endpoint: str) -> URL:
    try:
        url = URL(endpoint)
    except ValueError as error:
        raise AwsError("the endpoint is no address; write it as https://host") from error
    if endpoint and (url.scheme not in ("http", "https") or not url.host):
        raise AwsError("the endpoint is no address; write it as https://host")
    return url


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")


def _own_credentials() -> Credentials | None:
    """Those of the environment, for a stand-in on this machine: it needs none, and AWS's chain ends in a server that
    is only found in AWS, which takes seconds to miss."""
    key, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    return Credentials(key, secret, os.environ.get("AWS_SESSION_TOKEN")) if key and secret else None
