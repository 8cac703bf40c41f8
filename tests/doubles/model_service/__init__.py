"""A scripted model server as its own process: OpenAI, Ollama, Bedrock, Anthropic and InvokeAgent on real sockets.

    lane = await models.lane(Reply("Hello."), Reply(calls=(Call("look_up", {"n": 1}),)))
    lane.url("openai")            # the base address for a client of that wire
    await lane.requests()         # what came

`models` is the fixture of `tests/conftest.py`: one process for all tests of a worker.
"""

from tests.doubles.model_service.client import (
    Lane,
    ModelService,
    Request,
    Streams,
    connected,
    model_service,
    model_service_process,
)
from tests.doubles.model_service.embedding_form import Vectors
from tests.doubles.model_service.quirks import Quirk
from tests.doubles.model_service.script import Call, Reply, ScriptError, Usage, Wire

__all__ = [
    "Call",
    "Lane",
    "ModelService",
    "Quirk",
    "Reply",
    "Request",
    "ScriptError",
    "Streams",
    "Usage",
    "Vectors",
    "Wire",
    "connected",
    "model_service",
    "model_service_process",
]
