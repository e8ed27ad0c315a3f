"""Clients are sent elsewhere by a header in their next answer: how many, which, and until when."""

from __future__ import annotations

import asyncio

import pytest
from uvicorn.server import ServerState

from noria.serving.draining import CLOSE, DrainingState, drain_connections, end_connections, shed_connections


class Connection:
    """What uvicorn keeps of one."""

    def __init__(self, state: ServerState) -> None:
        self.server_state = state


def state_of(count: int) -> ServerState:
    state = ServerState()
    state.default_headers = [(b"server", b"noria")]
    for _ in range(count):
        state.connections.add(Connection(state))  # type: ignore[arg-type]  # stands for uvicorn's
    return state


@pytest.mark.parametrize(
    ("count", "share", "shed"), [(0, 0.5, 0), (1, 0.5, 1), (1, 0.49, 0), (10, 0.25, 3), (10, 0.0, 0), (10, 1.0, 10), (3, 0.5, 2)]
)
def test_a_share_of_the_clients_is_asked(count: int, share: float, shed: int) -> None:
    state = state_of(count)
    assert shed_connections(state, share) == shed
    ending = [c for c in state.connections if isinstance(c.server_state, DrainingState)]
    assert len(ending) == shed
    assert {c.server_state.default_headers[-1] for c in ending} <= {CLOSE}
    assert state.default_headers == [(b"server", b"noria")]  # the others' answers are as ever


def test_who_was_asked_is_not_asked_again() -> None:
    state = state_of(8)
    assert [shed_connections(state, 0.5) for _ in range(5)] == [4, 2, 1, 1, 0]


def test_a_client_that_leaves_sees_headers_that_are_set_later() -> None:
    state = state_of(1)
    (connection,) = state.connections
    end_connections(state, [connection])
    state.default_headers = [(b"date", b"today")]
    assert connection.server_state.default_headers == [(b"date", b"today"), CLOSE]
    assert connection.server_state.connections is state.connections


def test_draining_asks_who_comes_late_and_ends_when_all_are_gone() -> None:
    state = state_of(2)

    async def goes_on() -> None:
        late = Connection(state)
        draining = asyncio.create_task(drain_connections(state, 60.0))
        await asyncio.sleep(0)
        state.connections.add(late)  # type: ignore[arg-type]  # stands for uvicorn's
        while not isinstance(late.server_state, DrainingState):
            await asyncio.sleep(0.001)
        state.connections.clear()
        await draining

    asyncio.run(goes_on())


def test_draining_gives_up_at_its_time() -> None:
    state = state_of(2)
    asyncio.run(drain_connections(state, 0.01))
    assert len(state.connections) == 2
    assert all(isinstance(c.server_state, DrainingState) for c in state.connections)
