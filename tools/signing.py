"""AWS Signature Version 4, as a function: who asks is proved by a key that is not sent."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from functools import lru_cache, reduce
from hashlib import sha256
from urllib.parse import quote


def signature(
    secret: str, scope: str, method: str, path: str, headers: Mapping[str, str], body: bytes
) -> tuple[str, str]:
    """The names of the headers that are signed (all of these, in lower case), and the signature.

    `scope` is `<day>/<region>/<service>/aws4_request`; `path` is encoded as it is sent; there is no query.
    """
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name].strip()}\n" for name in sorted(headers))
    # A path that is encoded already is encoded once more for the signature.
    request = f"{method}\n{quote(path, safe='/~')}\n\n{lines}\n{names}\n{sha256(body).hexdigest()}"
    to_sign = f"AWS4-HMAC-SHA256\n{headers['x-amz-date']}\n{scope}\n{sha256(request.encode()).hexdigest()}"
    return names, _mac(_key(secret, scope), to_sign).hex()


@lru_cache(maxsize=16)
def _key(secret: str, scope: str) -> bytes:
    """The key of a day, region and service."""
    return reduce(_mac, scope.split("/"), f"AWS4{secret}".encode())


def _mac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
