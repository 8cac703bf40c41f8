"""`outcrop chat`: a conversation in the terminal, over the same API as everyone else's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx

from backend.cli.serve import complain
from backend.settings import SettingsError, load_settings

START_TIMEOUT_S = 90.0
RESUME_ATTEMPTS = 5
RESUME_PAUSE_S = 0.5


class ChatError(Exception):
    """The conversation cannot go on; the message is for people."""


def run(*, identity: str = "c1", url: str | None = None, session: str | None = None) -> int:
    """Talk until end of input. Returns the exit code."""
    try:
        settings = load_settings()
        with _server(url, f"http://127.0.0.1:{settings.port}") as base:
            headers = {"x-demo-identity": identity}
            timeout = httpx.Timeout(120.0, connect=5.0)
            with httpx.Client(base_url=base, headers=headers, timeout=timeout, trust_env=False) as client:
                Conversation(client, session).run()
    except SettingsError as error:
        return complain("The configuration cannot be used:", *str(error).splitlines())
    except ChatError as error:
        return complain(str(error))
    except KeyboardInterrupt:
        print()
    return 0


@contextmanager
def _server(url: str | None, local: str) -> Iterator[str]:
    """The address of a server: the one that is named, the one that runs here, or a new one for this conversation."""
    if url or _answers(local):
        yield (url or local).rstrip("/")
        return
    print(_dim(f"No server at {local}; starting one."))
    child = subprocess.Popen([sys.executable, "-m", "backend", "serve"], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _answers(local):
            if child.poll() is not None or time.monotonic() > deadline:
                raise ChatError("The server did not start; `outcrop serve` says why.")
            time.sleep(0.1)
        yield local
    finally:
        child.terminate()
        child.wait(timeout=60)


def _answers(url: str) -> bool:
    try:
        return bool(httpx.get(f"{url}/healthz", timeout=2.0, trust_env=False).json() == {"status": "ok"})
    except (httpx.HTTPError, ValueError):
        return False


@dataclass
class Conversation:
    """One conversation at the prompt."""

    client: httpx.Client
    session: str | None = None
    questions: list[dict[str, Any]] = field(default_factory=list)

    def run(self) -> None:
        """Read lines until the input ends."""
        print(_dim("Type a message; /new begins another conversation, /quit ends. Ctrl-C stops a reply."))
        while True:
            prompt = "yes or no? [y/n, or say something else] " if self.questions else "you> "
            try:
                line = input(prompt).strip()
            except EOFError:
                print()
                return
            if line == "/quit":
                return
            if line == "/new":
                self.session, self.questions = None, []
            elif self.questions and line.lower() in ("y", "n"):
                self.decide(confirm=line.lower() == "y")
            elif line:
                self.say(line)

    def say(self, text: str) -> None:
        """Send a message and show the reply as it comes; a broken stream is taken up where it broke."""
        self.questions = []
        body = {"message": text} | ({"session_id": self.session} if self.session else {})
        headers = {"idempotency-key": uuid4().hex}
        self._show("POST", "/api/v1/chat/stream", json=body, headers=headers)

    def decide(self, *, confirm: bool) -> None:
        """Press the button under each open question, and show the turn it made."""
        questions, self.questions = self.questions, []
        for question in questions:
            body = {
                "session_id": self.session,
                "pending_id": question["pending_id"],
                "decision": "confirm" if confirm else "decline",
            }
            try:
                answer = self.client.post("/api/v1/chat/confirm", json=body)
            except KeyboardInterrupt:
                self._stop_running()
                continue
            if answer.is_error:
                self._refused(answer)
            else:
                self._show("GET", f"/api/v1/turns/{answer.json()['turn_id']}/events")

    def _show(self, method: str, path: str, **request: Any) -> None:
        seen = -1
        turn_id = ""
        stopping = False
        for _ in range(RESUME_ATTEMPTS):
            try:
                with self.client.stream(method, path, **request) as stream:
                    if stream.is_error:
                        stream.read()
                        self._refused(stream)
                        return
                    self.session, turn_id = stream.headers["x-session-id"], stream.headers["x-turn-id"]
                    if stopping:
                        self._stop(turn_id)
                    for event in read_events(stream.iter_lines()):
                        seen = event["seq"]
                        self._print(event)
                        if event["type"] in ("turn_completed", "turn_failed", "turn_cancelled"):
                            return
            except httpx.TransportError as error:
                if not turn_id:
                    raise ChatError(f"There is no answer from {self.client.base_url}: {error}") from error
                time.sleep(RESUME_PAUSE_S)
            except KeyboardInterrupt:
                if stopping:
                    raise
                stopping = True
                print(_dim("\n  [stopping; Ctrl-C again leaves]"))
            else:
                time.sleep(RESUME_PAUSE_S)
            if turn_id:
                method, path, request = "GET", f"/api/v1/turns/{turn_id}/events", {"params": {"after": seen}}
        raise ChatError("The connection was lost and could not be taken up again.")

    def _stop(self, turn_id: str) -> None:
        """Ask that the turn ends; its events tell how it did."""
        self.client.post(f"/api/v1/turns/{turn_id}/cancel", headers={"content-type": "application/json"})

    def _stop_running(self) -> None:
        """Stop the turn of a button, which is not named before it is over, and show how it ended."""
        turn_id = self.client.get(f"/api/v1/sessions/{self.session}").json().get("running_turn_id")
        if turn_id is None:
            return
        self._stop(turn_id)
        self._show("GET", f"/api/v1/turns/{turn_id}/events")

    def _print(self, event: dict[str, Any]) -> None:
        match event["type"]:
            case "text_delta":
                print(event["text"], end="", flush=True)
            case "tool_finished":
                arguments = ", ".join(f"{key}={value}" for key, value in event["args"].items() if value is not None)
                print(_dim(f"  [{event['tool']}({arguments}) {event['status']}, {event['duration_ms']:.0f} ms]"))
            case "confirmation_required":
                self.questions.append(event)
            case "route_changed" if event["restarts"]:
                print(_dim(f"\n  [{event['reason']}; {event['model']} answers instead, from the beginning]"))
            case "turn_failed":
                print(f"\n{event['user_hint']} {_dim('(' + event['code'] + ')')}")
            case "turn_cancelled":
                print(f"\n{_dim('Stopped.')}")
            case "turn_completed":
                print()

    def _refused(self, answer: httpx.Response) -> None:
        try:
            body = answer.json()
        except ValueError:
            body = {}
        if answer.status_code in (404, 422) and not self.session:
            raise ChatError(body.get("detail", f"The server answered {answer.status_code}."))
        print(f"{body.get('detail', 'The server could not answer.')} {_dim('(' + str(answer.status_code) + ')')}")


def read_events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """The `data:` of each Server-Sent Event."""
    for line in lines:
        if line.startswith("data: "):
            yield json.loads(line[6:])


def _dim(text: str) -> str:
    return f"\x1b[2m{text}\x1b[0m" if sys.stdout.isatty() and "NO_COLOR" not in os.environ else text
