"""Requests to an AWS service as it wants them: botocore's credentials and signer, for sockets of our own.

Shared by Lambda, Bedrock models and Bedrock agents. boto3 itself waits in a thread per call.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, RefreshableCredentials
from botocore.exceptions import BotoCoreError
from botocore.session import Session
from yarl import URL

SIGNED_AT_ONCE = 4


class AwsError(Exception):
    """AWS cannot be called as things are set; the message says what is missing and what to do, and holds no secret."""


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
        self._signing = asyncio.Semaphore(SIGNED_AT_ONCE)
        self._refreshing = asyncio.Lock()

    async def open(self) -> None:
        """Find region, endpoint and credentials by AWS's usual chain, off the loop; `AwsError` says what is missing."""
        try:
            await asyncio.to_thread(self._configure)
        except BotoCoreError as error:
            raise AwsError(f"{error}; check AWS_PROFILE and the files in ~/.aws") from error

    def move(self, endpoint_url: str) -> None:
        """Call it there, once it is opened."""
        self._endpoint = endpoint_url

    async def signed(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> dict[str, str]:
        """The headers with those that prove who asks. `url` is encoded as it is sent, in each segment of its path.

        Raises `AwsError` when credentials that expire cannot be renewed.
        """
        whole = {**headers, "host": URL(url, encoded=True).authority}
        if self._api_key:
            return {**whole, "authorization": f"Bearer {self._api_key}"}
        async with self._signing:
            credentials = await self._frozen()
            if credentials is None:  # a stand-in that wants none
                return whole
            request = AWSRequest(method, url, headers=whole, data=body)
            SigV4Auth(credentials, self._signing_name, self.region).add_auth(request)
            # Signing takes a fraction of a millisecond; two hundred in a row would hold up everything else.
            await asyncio.sleep(0)
        return dict(request.headers.items())

    def _configure(self) -> None:
        session = Session(profile=self._profile)
        self.region = self.region or os.environ.get("AWS_REGION") or session.get_config_variable("region")
        own = f"AWS_ENDPOINT_URL_{self.service.upper().replace('-', '_')}"
        endpoint = self._endpoint or os.environ.get(own) or os.environ.get("AWS_ENDPOINT_URL") or ""
        if not endpoint and not self.region:
            raise AwsError("no region; set `region`, or AWS_REGION")
        self.region = self.region or "us-east-1"
        if not self._api_key:
            self._credentials = _credentials(session, URL(endpoint), by_chain=bool(self._profile))
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
        held = self._credentials
        if held is None:
            return None
        # A refresh asks a server, and waits for it; one does for all that wait.
        if isinstance(held, RefreshableCredentials) and held.refresh_needed():
            async with self._refreshing:
                try:
                    held = await asyncio.to_thread(held.get_frozen_credentials)
                except BotoCoreError as error:
                    raise AwsError(f"AWS credentials cannot be renewed ({error}); sign in again") from error
        else:
            held = held.get_frozen_credentials()
        return Credentials(held.access_key, held.secret_key, held.token)


def _credentials(session: Session, endpoint: URL, *, by_chain: bool) -> Any:
    """By AWS's chain; for a stand-in on this machine from the environment alone: it needs none, and the chain ends in
    a server that is only found in AWS, which takes seconds to miss."""
    if endpoint.host in ("127.0.0.1", "localhost", "::1") and not by_chain:
        key, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
        return Credentials(key, secret, os.environ.get("AWS_SESSION_TOKEN")) if key and secret else None
    return session.get_credentials()
