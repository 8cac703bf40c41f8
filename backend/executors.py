"""Which executor runs which action group: the agent's `action_groups.yaml` made into objects."""

from __future__ import annotations

import importlib
import json
import os
import traceback
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.definition import AgentDefinition
from tools.action import Action, InvalidAction
from tools.breaker import Breaker
from tools.catalogue import ACTIONS
from tools.contract import Directory, Executor, ToolSpec
from tools.executors.config import (
    Auth,
    ClientGroup,
    ExecutorError,
    HttpGroup,
    InProcessGroup,
    LambdaGroup,
    McpGroup,
    ToolConfig,
    Trial,
)
from tools.in_process import InProcess
from tools.toolbox import GroupedToolbox

if TYPE_CHECKING:
    from backend.lambdas.functions import Function
    from tools.executors.lambda_wire import LambdaWire
    from tools.executors.mounted import Mounted, Transport

GroupConfig = InProcessGroup | LambdaGroup | HttpGroup | McpGroup | ClientGroup
MakeBreaker = Callable[[str, int, float], Breaker]

LOCAL_CONCURRENCY = 8
# A function is stopped by its own time limit before we stop waiting for it.
MARGIN_S = 1.0


@dataclass(frozen=True)
class Surroundings:
    """What executors need of the process."""

    directory: Directory
    data_dir: Path
    make_breaker: MakeBreaker
    environ: Mapping[str, str]  # for secrets named by the file, and for functions that run here


class Builder:
    """Makes executors, and collects the functions that are to run on this machine."""

    def __init__(self, definition: AgentDefinition, around: Surroundings) -> None:
        self._definition = definition
        self._around = around
        self.local: dict[str, Function] = {}
        self._local_wires: list[LambdaWire] = []

    def executors(self) -> dict[str, Executor]:
        """An executor for each group; `ExecutorError` tells of all that cannot be made."""
        made: dict[str, Executor] = {}
        problems = []
        for name, config in group_configs(self._definition).items():
            try:
                made[name] = self._executor(name, config)
            except ExecutorError as error:
                problems.append(str(error))
        if problems:
            raise ExecutorError("\n".join(problems))
        return made

    def _executor(self, group: str, config: GroupConfig) -> Executor:
        trial: Trial | None = getattr(config, "trial", None)
        usual = self._one(group, config)
        if trial is None:
            return usual
        from tools.executors.shares import Shared

        to = trial.to.model_copy(update={"module": getattr(config, "module", None)})
        return Shared(group, usual, self._one(group, to), trial.percent, trial.compare)

    def _one(self, group: str, config: GroupConfig) -> Executor:
        match config:
            case InProcessGroup():
                return InProcess(actions_of(group, config.module))
            case LambdaGroup() if config.is_ours:
                from tools.executors.lambda_function import OwnLambda

                actions = actions_of(group, config.module)
                wire = self._wire(group, config, ours=True)
                return OwnLambda(group, actions, wire, self._breaker(group, config), timeout_s=config.timeout_s)
            case LambdaGroup():
                from tools.executors.lambda_function import ForeignLambda

                wire = self._wire(group, config, ours=False)
                transport = ForeignLambda(
                    group, wire, functions=self._path(config.functions), openapi=self._path(config.openapi),
                    session=config.session,
                )  # fmt: skip
                return self._mounted(group, config, transport)
            case HttpGroup():
                return self._http(group, config)
            case McpGroup():
                return self._mcp(group, config)
            case ClientGroup():
                from tools.executors.client import ByConversation, ClientTransport
                from tools.executors.mounted import Mounted

                transport_ = ClientTransport(
                    group, config, functions=self._path(config.functions), openapi=self._path(config.openapi)
                )
                breakers = ByConversation(f"group:{group}", config.breaker_failures, config.breaker_reset_s)
                return Mounted(group, config, transport_, breakers, name=config.executor)

    def _http(self, group: str, config: HttpGroup) -> Executor:
        from tools.executors.http import HttpTransport

        document = self._definition.folder / config.openapi
        return self._mounted(group, config, HttpTransport(group, config, document, self._secret(group, config.auth)))

    def _mcp(self, group: str, config: McpGroup) -> Executor:
        from tools.executors.mcp import McpTransport

        secret = self._secret(group, config.auth)
        headers = {config.auth.header: secret} if config.auth and secret else {}
        transport = McpTransport(group, config, environ=self._around.environ, headers=headers)
        return self._mounted(group, config, transport)

    def _mounted(
        self, group: str, config: LambdaGroup | HttpGroup | McpGroup | ClientGroup, transport: Transport
    ) -> Mounted:
        from tools.executors.mounted import Mounted

        return Mounted(group, config, transport, self._breaker(group, config), name=config.executor)

    def _breaker(self, group: str, config: LambdaGroup | HttpGroup | McpGroup | ClientGroup) -> Breaker:
        return self._around.make_breaker(f"group:{group}", config.breaker_failures, config.breaker_reset_s)

    def _path(self, path: Path | None) -> Path | None:
        """Relative to the folder of the definition."""
        return None if path is None else self._definition.folder / path

    def _secret(self, group: str, auth: Auth | None) -> str | None:
        if auth is None:
            return None
        value = self._around.environ.get(auth.value_from)
        if not value:
            raise ExecutorError(f"action group {group}: auth.value_from: {auth.value_from} is not set")
        return f"{auth.scheme} {value}".strip()

    def _wire(self, group: str, config: LambdaGroup, *, ours: bool) -> LambdaWire:
        from tools.executors.lambda_wire import LambdaWire

        path, colon, handler = config.function.rpartition(":")
        if not (colon and path.endswith(".py")):
            url = str(config.endpoint_url).rstrip("/") if config.endpoint_url else None
            return LambdaWire(config.function, region=config.region, endpoint_url=url)
        return self._local_wire(group, config, Path(path), handler, ours=ours)

    def _local_wire(self, group: str, config: LambdaGroup, path: Path, handler: str, *, ours: bool) -> LambdaWire:
        """A wire to a handler that runs on this machine, as soon as its service listens."""
        from backend.lambdas.functions import Function, UnusableFunction, passed_environment
        from tools.executors.lambda_wire import LambdaWire

        file = self._definition.folder / path
        if not file.is_file():
            raise ExecutorError(f"action group {group}: function: there is no file {file}")
        environment = dict(config.environment)
        if ours:
            environment = {**passed_environment(self._around.environ), **self._directory(), **environment}
        try:
            function = Function(
                f"{group}-{len(self.local)}" if group in self.local else group,
                file.parent, f"{file.stem}.{handler}", environment, timeout_s=max(config.timeout_s - MARGIN_S, 0.5),
            )  # fmt: skip
        except UnusableFunction as error:
            raise ExecutorError(f"action group {group}: {error}") from error
        self.local[function.name] = function
        wire = LambdaWire(function.name, region=function.region, endpoint_url="http://127.0.0.1:0")
        self._local_wires.append(wire)
        return wire

    def _directory(self) -> dict[str, str]:
        """The office directory as functions of ours read it."""
        self._around.data_dir.mkdir(parents=True, exist_ok=True)
        path = self._around.data_dir / "directory.json"
        path.write_text(json.dumps(self._around.directory.to_json()), "utf-8")
        return {"DIRECTORY_JSON": str(path.resolve())}

    def listen_at(self, url: str) -> None:
        """Tell the wires of local functions where these listen."""
        for wire in self._local_wires:
            wire.move(url)


def group_configs(definition: AgentDefinition) -> dict[str, GroupConfig]:
    """How each group of an agent is configured; without a word about it, it runs in this process."""
    plain = InProcessGroup(executor="in_process")
    return {name: definition.groups.root.get(name, plain) for name in definition.action_groups}


def actions_of(group: str, module: str | None) -> tuple[Action, ...]:
    """The actions of a group of ours, from the catalogue or from a module's `ACTIONS`; `ExecutorError` if none."""
    found: Iterable[Action] = ACTIONS if module is None else _actions_in(group, module)
    own = tuple(each for each in found if each.spec.group == group)
    if not own:
        there = f"module {module}" if module else "the catalogue"
        raise ExecutorError(
            f"action group {group}: {there} has no action of this group; name the module that holds its ACTIONS "
            "(`module:`), or the executor that has its tools"
        )
    return own


def _actions_in(group: str, module: str) -> tuple[Action, ...]:
    try:
        found = importlib.import_module(module)
    except InvalidAction as error:
        raise ExecutorError(f"action group {group}: {error}") from error
    except Exception as error:  # whatever the module's own code raises
        raise ExecutorError(f"action group {group}: {_why_not_imported(module, error)}") from error
    actions = getattr(found, "ACTIONS", None)
    if not isinstance(actions, tuple) or not all(isinstance(each, Action) for each in actions):
        raise ExecutorError(
            f"action group {group}: module {module} has no tuple ACTIONS of its actions; add `ACTIONS = (...)` to it"
        )
    return actions


def _why_not_imported(module: str, error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
        return f"there is no module {module}; correct `module:`, or put its folder on PYTHONPATH"
    frames = [each for each in traceback.extract_tb(error.__traceback__) if not each.filename.startswith("<")]
    file, line = frames[-1].filename, frames[-1].lineno
    if isinstance(error, SyntaxError) and error.filename:
        file, line = error.filename, error.lineno
    return f"module {module} cannot be imported: {os.path.relpath(file)}:{line}: {type(error).__name__}: {error}"


@asynccontextmanager
async def opened(
    definition: AgentDefinition, around: Surroundings
) -> AsyncIterator[tuple[GroupedToolbox, AgentDefinition]]:
    """The agent's tools, ready, and its definition with words for all of them; `ExecutorError` says what is wrong."""
    builder = Builder(definition, around)
    executors = builder.executors()
    async with AsyncExitStack() as stack:
        if builder.local:
            from backend.lambdas.service import CannotServe, LocalLambda

            try:
                service = await stack.enter_async_context(
                    LocalLambda(list(builder.local.values()), concurrency=LOCAL_CONCURRENCY)
                )
            except CannotServe as error:
                raise ExecutorError(f"action groups {', '.join(builder.local)}: {error}") from error
            builder.listen_at(service.url)
        toolbox = GroupedToolbox(executors)
        stack.push_async_callback(toolbox.close)
        await toolbox.open()
        yield toolbox, definition.with_wording(_configs(definition, executors))


def _configs(definition: AgentDefinition, executors: Mapping[str, Executor]) -> list[tuple[ToolSpec, ToolConfig]]:
    """What the file says of each tool, by its specification."""
    found = []
    for group, executor in executors.items():
        by_name = (
            executor.configs()
            if hasattr(executor, "configs")
            else getattr(definition.groups.root.get(group), "tools", {})
        )
        found += [(each.spec, by_name.get(each.spec.name, ToolConfig())) for each in executor.offered()]
    return found
