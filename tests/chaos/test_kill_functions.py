"""kill -9 of functions, of the service that runs them, and of both sides: a function may outlive whoever called it."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator

import pytest

from tests.chaos.conftest import FUNCTION_TIMEOUT_S
from tests.chaos.fleet import FunctionService
from tests.chaos.scene import (
    BOOKING,
    MOVE,
    Scene,
    Surroundings,
    found_later,
    told_as_unclear,
    upstream_holds,
    whole_and_once,
)
from tests.chaos.steps import before_it_was_sent, while_upstream_works, while_upstream_works_long

pytestmark = pytest.mark.parametrize("executor", ["elsewhere"])


@pytest.fixture
async def service(function_service: FunctionService, around: Surroundings) -> AsyncIterator[FunctionService]:
    """The service behind `endpoint_url`, with functions that have been loaded."""
    await function_service.ready()
    yield function_service
    function_service.resume()


# --- the function alone ---------------------------------------------------------------------------------------------


async def test_a_killed_function_that_had_sent_it_is_found_out_in_the_same_reply(
    around: Surroundings, service: FunctionService
) -> None:
    """Its request is carried out after its death; another one reads that back; it is not sent again."""
    scene = Scene(BOOKING, around)
    await scene.prepare()
    async with while_upstream_works(scene):
        service.kill_functions()
    assert BOOKING.reply in (await scene.answered())["text"]
    await whole_and_once(scene)


async def test_a_killed_function_that_had_not_sent_it_leaves_no_claim(
    around: Surroundings, service: FunctionService
) -> None:
    """Nobody saw how far it came, so nobody claims that nothing was changed; later that is on record."""
    scene = Scene(BOOKING, around)
    await scene.prepare()
    async with before_it_was_sent(scene):
        service.kill_functions()
    await told_as_unclear(scene, await scene.answered())
    await found_later(scene, "error", ())


# --- the service, and both ------------------------------------------------------------------------------------------


async def test_a_killed_service_is_told_as_unclear_and_found_out_when_it_is_back(
    around: Surroundings, service: FunctionService
) -> None:
    """There is nobody left who could read back; what had been sent is carried out, once."""
    scene = Scene(BOOKING, around)
    await scene.prepare()
    async with while_upstream_works(scene):
        await service.kill()
    await told_as_unclear(scene, await scene.answered())
    await service.start()
    await found_later(scene, "ok", BOOKING.commits)


async def test_both_killed_while_upstream_works(around: Surroundings, service: FunctionService) -> None:
    """The next server and the next service read back what had been sent."""
    scene = Scene(BOOKING, around)
    await scene.prepare()
    async with while_upstream_works(scene):
        await around.fleet.kill_active()
        await service.kill()
        await scene.broke_off()
    await service.start()
    await scene.give_up_leases()
    await whole_and_once(scene)


# --- functions that outlive the server ------------------------------------------------------------------------------


async def test_killed_after_the_function_answered_and_before_it_was_heard(
    around: Surroundings, service: FunctionService
) -> None:
    """The step between "upstream committed" and "answer received"."""
    scene = Scene(BOOKING, around)
    await scene.prepare()
    async with while_upstream_works(scene):
        answered = service.calls_ended()
        around.fleet.active.send(signal.SIGSTOP)
        await service.until_ended(answered + 1)
        assert scene.simulator.changes() == list(BOOKING.commits)
        await around.fleet.kill_active()
        await scene.broke_off()
    await scene.give_up_leases()
    await whole_and_once(scene)


async def test_an_invocation_that_is_taken_after_its_server_died(
    around: Surroundings, service: FunctionService
) -> None:
    """It lay in the service's queue; the turn that was taken over finds what it did, or does it alone."""
    scene = Scene(BOOKING, around)
    await scene.prepare()
    service.suspend()
    scene.begin()
    await scene.intended()
    await around.fleet.kill_active()
    await scene.broke_off()
    service.resume()
    await scene.give_up_leases()
    await whole_and_once(scene)


async def test_a_move_that_goes_on_without_its_server_is_not_made_twice(
    around: Surroundings, service: FunctionService
) -> None:
    """A look in between finds nothing done. A second release would take away what the first attempt then books."""
    scene = Scene(MOVE, around)
    await scene.prepare()
    async with while_upstream_works_long(scene):
        await around.fleet.kill_active()
        await scene.broke_off()
    await scene.give_up_leases()
    await whole_and_once(scene)


async def test_a_write_after_we_stopped_waiting_is_found_and_not_repeated(
    around: Surroundings, service: FunctionService
) -> None:
    """Nobody is killed: the function is slower than our time limit, and upstream slower than the look after it."""
    scene = Scene(BOOKING, around)
    await scene.prepare()
    scene.simulator.arm("schedule", f"slow:{(FUNCTION_TIMEOUT_S + 5) * 1000}", times=1)
    answer = await scene.change_it()
    upstream_holds(scene, ())
    await told_as_unclear(scene, answer)
    await found_later(scene, "ok", BOOKING.commits)
