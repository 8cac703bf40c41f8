"""A process that reads documents for a parser, one after another, and may be killed at any time.

It holds no secret (its environment is emptied by who starts it) and no more memory than it is told. It ends when its
standard input does.
"""

from __future__ import annotations

import math
import os
import resource
import sys
import traceback
from typing import Any, BinaryIO

from knowledge_base.errors import Refused
from knowledge_base.parsing.parse import parse
from knowledge_base.parsing.wire import LENGTHS, NO_SIDECAR, answer, parsed_as_json, read_request

SPARE_SECONDS = 5  # of CPU beyond what a document may take: whoever waits has killed us by then, or is no more


def main() -> None:
    """Serve until the input ends. The first frame says that all is ready."""
    memory = int(sys.argv[1])
    # What a library prints would break the frames.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    _send(out, {"ready": True})
    while True:
        lengths = sys.stdin.buffer.read(LENGTHS.size)
        if len(lengths) < LENGTHS.size:
            return
        _send(out, _answered(*LENGTHS.unpack(lengths)))


def _answered(head: int, content: int, sidecar: int) -> dict[str, Any]:
    try:
        read = sys.stdin.buffer.read
        raw, limits = read_request(read(head), read(content), None if sidecar == NO_SIDECAR else read(sidecar))
        _limit_cpu(limits.seconds)
        return {"parsed": parsed_as_json(parse(raw, limits))}
    except Refused as refused:
        return {"refused": [refused.reason, str(refused)]}
    except MemoryError:
        return {"out_of_memory": True}
    except Exception as error:  # noqa: BLE001 - the outermost loop: what a library raised is told, and the next one read
        return {"failed": type(error).__name__, "traceback": traceback.format_exc(limit=-8)}


def _limit_cpu(seconds: float) -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    allowed = math.ceil(usage.ru_utime + usage.ru_stime + seconds) + SPARE_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (allowed if most == resource.RLIM_INFINITY else min(allowed, most), most))


def _send(out: BinaryIO, body: dict[str, Any]) -> None:
    out.write(answer(body))
    out.flush()


if __name__ == "__main__":
    main()
