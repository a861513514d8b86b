"""Hazard: `kill -9` at any moment, under load, loses or changes an order.

Six clients in other processes write a history while the order service is killed and restarted 20 times. Then, with no
order sent again: every answered or stored order ends processed, and no answered result changed.
"""

import random
import time

import grpc
import pytest

from client import result_of
from foreign_data_manager import Behaviour, first_data
from history import OK, UNKNOWN
from load import Load
from waiting import wait_until

KILLS = 20


def kill_under_load(service) -> tuple:
    """The history, and the count of the kills that hit a running service."""
    kills = 0
    with Load(service.port) as load:
        for _ in range(KILLS):
            seen = load.history.count(OK)
            wait_until(lambda seen=seen: load.history.count(OK) > seen, 20, "answers after the restart")
            time.sleep(random.uniform(0.0, 0.6))  # not a wait: the moment of the kill is what is random here
            kills += service.is_running()
            service.kill()
            service.start()
    return load.history, kills


def check_nothing_lost(client, history, kills: int) -> list:
    """Waits for rest and checks the history against the stored orders, which it returns."""
    client.wait_all_ended(timeout=60)
    stored = client.list_all()
    history.check_against(stored)
    figures = f"{kills} kills, {history.count(OK)} answered, {history.count(UNKNOWN)} unknown, {len(stored)} stored"
    print(figures, dict(history.codes))
    assert kills == KILLS and history.count(UNKNOWN) > 0 and history.count(OK) > 100, figures
    for order in random.sample(stored, 50):
        assert result_of(client.get(order.order_id)) == result_of(order)
    for entry in random.sample(history.entries, 50):
        assert client.knows(entry.order_id) or entry.outcome != OK, f"answered and lost: {entry}"
    return stored


@pytest.mark.timeout(300)
@pytest.mark.long
def test_twenty_kills_with_a_manager_of_another_make(platform):
    foreign = platform.foreign_data_manager(default=Behaviour.ONCE)
    service = platform.order_service()
    history, kills = kill_under_load(service)
    stored = check_nothing_lost(platform.client(service), history, kills)
    for order in stored:
        assert (order.storage_id, order.pickup_point_id) == first_data(order.order_id)
    # An order may end with no callback of its own acknowledged: committed, and the answer died with the service.
    assert foreign.callback_codes[grpc.StatusCode.UNAVAILABLE] > 0, "no callback met a dead service"


@pytest.mark.timeout(300)
@pytest.mark.long
def test_twenty_kills_with_our_manager_that_delivers_once(platform):
    manager = platform.data_manager("--once")
    service = platform.order_service()
    history, kills = kill_under_load(service)
    stored = check_nothing_lost(platform.client(service), history, kills)
    given = platform.manager_client(manager).given()
    for order in stored:
        assert given[order.order_id] == (order.storage_id, order.pickup_point_id)
