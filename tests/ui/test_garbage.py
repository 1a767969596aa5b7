"""When garbage is collected: never while something goes on, once when it has become quiet."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests.ui.scripted import make_app
from tui_chat.ui.garbage import NEVER, QUIET_S, GarbageRota


@pytest.fixture
def rota() -> Iterator[GarbageRota]:
    rota = GarbageRota()
    rota.begin()
    yield rota
    rota.end()
    gc.unfreeze()


def test_full_collections_do_not_come_by_themselves(rota: GarbageRota) -> None:
    assert gc.isenabled()
    assert gc.get_threshold()[2] == NEVER


def test_thresholds_are_given_back() -> None:
    before = gc.get_threshold()
    rota = GarbageRota()
    rota.begin()
    rota.end()
    assert gc.get_threshold() == before


def test_quiet_is_waited_for_and_used_once(rota: GarbageRota) -> None:
    assert not rota.look("a", 0.0, busy=False)
    assert not rota.look("a", QUIET_S / 2, busy=False)
    assert not rota.look("b", QUIET_S, busy=False), "something happened just now"
    assert rota.look("b", 2 * QUIET_S, busy=False)
    assert not rota.look("b", 9 * QUIET_S, busy=False), "nothing happened since"


def test_nothing_is_collected_while_busy(rota: GarbageRota) -> None:
    assert not any(rota.look("a", QUIET_S * step, busy=True) for step in range(9))


def test_cycles_set_aside_before_they_were_garbage_go_as_well(rota: GarbageRota) -> None:
    class Node:
        alive = 0

        def __init__(self) -> None:
            self.own = self
            Node.alive += 1

        def __del__(self) -> None:
            Node.alive -= 1

    node = Node()
    gc.freeze()
    del node
    rota.look("a", 0.0, busy=False)
    assert rota.look("a", QUIET_S, busy=False)
    assert Node.alive == 0


async def test_nothing_is_looked_at_once_the_screens_are_gone() -> None:
    app = make_app()
    async with app.run_test():
        pass
    app._collect_garbage()  # a timer may still fire while the app is taken down
