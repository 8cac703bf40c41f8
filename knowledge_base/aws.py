"""Requests to an AWS service as it wants them: botocore finds the credentials and signs, the sockets are ours."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

THIS_MACHINE = ("127.0.0.1", "localhost", "::1")
EXTRA = "this needs the AWS extra: pip install 'outcrop[aws]'"


class AwsUnusable(Exception):
    """AWS cannot be called as things are set; the message says what is missing and what to do, and holds no secret."""


class Aws:
    """One service in one region. `service` is the name in its host (`bedrock-runtime`, `s3`).

    `signing_name` is the name that requests are signed for, where it is another one (`bedrock`). `api_key` is a bearer
    token that takes the place of credentials and signature.
    """

    def __init__(
        self,
        service: str,
        *,
        signing_name: str = "",
        region: str | None = None,
        endpoint_url: str | None = None,
        api_key: str = "",
    ) -> None:
        self.service = service
        self.region = region or ""  # known once opened
        self.url = ""  # known once opened; ends without a slash
        self._signing_name = signing_name or service
        self._endpoint = endpoint_url
        self._api_key = api_key
        self._credentials: Any = None

    async def open(self) -> None:
        """Find region, endpoint and credentials by AWS's usual chain, off the loop; `AwsUnusable` says what is missing.

        An endpoint on this machine gets the credentials of the environment, and unsigned requests without them.
        """
        await asyncio.to_thread(self._open)

    async def headers(
        self, method: str, url: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """The headers with those that prove who asks. `url` is encoded as it is sent; it may have a query.

        Raises `AwsUnusable` when credentials that expire cannot be renewed.
        """
        if self._api_key:
            return {**(headers or {}), "authorization": f"Bearer {self._api_key}"}
        if self._credentials is None:
            return dict(headers or {})
        # Credentials that expire are renewed by a server, and botocore waits for it.
        return await asyncio.to_thread(self._signed, method, url, body, headers or {})

    def _open(self) -> None:
        try:
            from botocore.exceptions import BotoCoreError, ClientError
            from botocore.session import Session
        except ImportError as error:
            raise AwsUnusable(EXTRA) from error
        try:
            self._configure(Session())
        except (BotoCoreError, ClientError) as error:
            raise AwsUnusable(f"{_said(error)}; check AWS_PROFILE and the files in ~/.aws") from error

    def _configure(self, session: Any) -> None:
        own = f"AWS_ENDPOINT_URL_{self.service.upper().replace('-', '_')}"
        endpoint = self._endpoint or os.environ.get(own) or os.environ.get("AWS_ENDPOINT_URL") or ""
        self.region = self.region or os.environ.get("AWS_REGION") or session.get_config_variable("region") or ""
        if not endpoint and not self.region:
            raise AwsUnusable("no region; set AWS_REGION")
        self.region = self.region or "us-east-1"
        is_near = urlsplit(endpoint).hostname in THIS_MACHINE
        if self._api_key and endpoint.startswith("http:") and not is_near:
            raise AwsUnusable("an API key is not sent without TLS; use https in the endpoint's address")
        if not self._api_key:
            # AWS's chain ends in a server that is only found in AWS, which takes seconds to miss.
            self._credentials = _of_environment() if is_near else session.get_credentials()
            if self._credentials is None and not endpoint:
                raise AwsUnusable(
                    "no AWS credentials; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run where "
                    "a role is attached"
                )
        if not endpoint:
            found = session.get_component("endpoint_resolver").construct_endpoint(self.service, self.region)
            endpoint = f"https://{found['hostname'] if found else f'{self.service}.{self.region}.amazonaws.com'}"
        self.url = endpoint.rstrip("/")

    def _signed(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> dict[str, str]:
        from botocore.auth import S3SigV4Auth, SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import BotoCoreError, ClientError

        signer = S3SigV4Auth if self._signing_name == "s3" else SigV4Auth
        request = AWSRequest(method=method, url=url, data=body, headers=dict(headers))
        try:
            frozen = self._credentials.get_frozen_credentials()
        except (BotoCoreError, ClientError) as error:
            raise AwsUnusable(f"AWS credentials cannot be renewed ({_said(error)}); sign in again") from error
        signer(frozen, self._signing_name, self.region).add_auth(request)
        return dict(request.headers.items())


def _of_environment() -> Any:
    from botocore.credentials import Credentials

    key, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    return Credentials(key, secret, os.environ.get("AWS_SESSION_TOKEN")) if key and secret else None


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")
