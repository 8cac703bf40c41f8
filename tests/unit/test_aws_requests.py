"""Signatures as botocore makes them, and credentials that expire: renewed once for all, or said to be gone."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tools.executors import aws
from tools.executors.aws import AwsError, AwsService

URL = "https://bedrock-runtime.eu-west-1.amazonaws.com/model/a%3A0/converse"


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A profile whose credentials a program gives: good for five minutes, then for an hour, then no more.

    The file has a line for each time it ran.
    """
    counted = tmp_path / "runs"
    for n, minutes in ((1, 5), (2, 60)):
        expires = (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat()
        known = {"Version": 1, "AccessKeyId": f"AKID{n}", "SecretAccessKey": "s", "SessionToken": "t"}
        (tmp_path / f"credentials{n}").write_text(json.dumps({**known, "Expiration": expires}))
    program = tmp_path / "program.sh"
    program.write_text(f'echo x >> {counted}\nexec cat "{tmp_path}/credentials$(wc -l < {counted} | tr -d " ")"\n')
    config = tmp_path / "config"
    config.write_text(f"[profile short]\nregion = eu-west-1\ncredential_process = sh {program}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    return counted


async def signed(service: AwsService) -> str:
    """Who a request is signed as."""
    headers = await service.signed("POST", URL, b"{}", {"content-type": "application/json"})
    return headers["authorization"].split("Credential=")[1].split("/")[0]


@pytest.mark.parametrize("token", ["", "session/token+="])
@pytest.mark.parametrize(
    "url",
    [
        URL,
        "http://127.0.0.1:8080/a/b/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A1%3Ax%2Fy.z-v1%3A0/converse-stream",
        "http://localhost/2015-03-31/functions/%C3%A9~_.-%20/invocations",
    ],
)
async def test_signatures_are_those_that_botocore_makes(url: str, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same request at the same second."""
    for name, value in (("ACCESS_KEY_ID", "AKID"), ("SECRET_ACCESS_KEY", "se/cret+"), ("SESSION_TOKEN", token)):
        monkeypatch.setenv(f"AWS_{name}", value)
    service = AwsService("bedrock-runtime", signing_name="bedrock", region="eu-west-1", endpoint_url="http://localhost")
    await service.open()
    body = '{"text":"Grüße"}'.encode()
    headers = await service.signed("POST", url, body, {"content-type": "application/json"})
    proof = headers.pop("authorization")
    assert ("x-amz-security-token" in headers) is bool(token)
    theirs = SigV4Auth(Credentials("AKID", "se/cret+", token), "bedrock", "eu-west-1")
    request = AWSRequest("POST", url, headers=headers, data=body)
    request.context["timestamp"] = headers["x-amz-date"]
    signature = theirs.signature(theirs.string_to_sign(request, theirs.canonical_request(request)), request)
    names = theirs.signed_headers(theirs.headers_to_sign(request))
    assert proof == (
        f"AWS4-HMAC-SHA256 Credential={theirs.scope(request)}, SignedHeaders={names}, Signature={signature}"
    )


async def test_credentials_are_renewed_once_for_all(runs: Path) -> None:
    """Twenty requests that come when they are about to expire; region and endpoint are those of the profile."""
    service = AwsService("bedrock-runtime", signing_name="bedrock", profile="short")
    await service.open()
    assert service.url == "https://bedrock-runtime.eu-west-1.amazonaws.com"
    assert set(await asyncio.gather(*(signed(service) for _ in range(20)))) == {"AKID2"}
    assert await asyncio.to_thread(runs.read_text) == "x\nx\n"


async def test_credentials_that_cannot_be_renewed_are_an_error_that_says_so(runs: Path, tmp_path: Path) -> None:
    """With what to do."""
    service = AwsService("bedrock-runtime", signing_name="bedrock", profile="short")
    await service.open()
    (tmp_path / "credentials2").unlink()
    with pytest.raises(AwsError, match=r"cannot be renewed .*sign in again"):
        await signed(service)


async def test_nobody_waits_for_new_credentials_while_the_old_ones_are_good(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One asks for new ones, in vain; the others go on meanwhile, and afterwards nobody asks for half a minute."""
    known = json.loads((tmp_path / "credentials1").read_text())
    known["Expiration"] = (datetime.now(UTC) + timedelta(minutes=12)).isoformat()
    (tmp_path / "credentials1").write_text(json.dumps(known))
    go_on = tmp_path / "go_on"
    program = f"echo x >> {runs}; [ $(wc -l < {runs}) -gt 1 ] || exec cat {tmp_path}/credentials1\n"
    (tmp_path / "program.sh").write_text(f"{program}until [ -e {go_on} ]; do sleep 0.01; done; exit 1\n")
    monkeypatch.setattr(aws, "RENEWED_EVERY_S", 0.0)
    service = AwsService("bedrock-runtime", signing_name="bedrock", profile="short")
    await service.open()
    go_on.touch()
    assert await signed(service) == "AKID1"
    go_on.unlink()
    asking = asyncio.create_task(signed(service))
    async with asyncio.timeout(5):
        while await asyncio.to_thread(runs.read_text) != "x\nx\nx\n":
            await asyncio.sleep(0.01)
        assert {await signed(service) for _ in range(8)} == {"AKID1"}
    assert not asking.done()
    monkeypatch.setattr(aws, "RENEWED_EVERY_S", 30.0)
    go_on.touch()
    assert await asking == "AKID1"
    assert {await signed(service) for _ in range(8)} == {"AKID1"}
    assert await asyncio.to_thread(runs.read_text) == "x\nx\nx\nx\n"


@pytest.mark.parametrize("endpoint", ["models.example", "http://[x", "ftp://models.example"])
async def test_an_endpoint_that_is_no_address_is_told(endpoint: str, runs: Path) -> None:
    """And how to write one."""
    with pytest.raises(AwsError, match="no address; write it as https://host"):
        await AwsService("lambda", profile="short", endpoint_url=endpoint).open()
