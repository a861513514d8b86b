"""Hazard: a process is paused for longer than its lease, another one takes its orders over, and it resumes.

Nothing is lost or duplicated, and the requests still open at the paused process get the real outcomes.
"""

import os
import signal
import threading

import pytest

from client import assert_processed_as_given
from foreign_data_manager import Behaviour, first_data
from waiting import elapsed_since, wait_until
import time

SLEEPER, OTHER = 0, 1


@pytest.mark.long
def test_a_replica_that_slept_answers_with_what_the_other_did(platform):
    foreign = platform.foreign_data_manager(default=Behaviour.SILENT)
    sleeper = platform.order_service()
    client, answers = platform.client(sleeper), []
    pairs = [(order_id, 1) for order_id in range(200)]
    waiting = threading.Thread(target=lambda: answers.extend(client.process(pairs, timeout=60)))
    waiting.start()
    wait_until(lambda: len(foreign.questions) == len(pairs), 10, "every order asked for")
    os.kill(sleeper.pid, signal.SIGSTOP)
    try:
        foreign.default, foreign.route = Behaviour.BEFORE, lambda _order_id: OTHER
        other = platform.client(platform.order_service(replica=OTHER))
        other.wait_all_ended(25)
    finally:
        os.kill(sleeper.pid, signal.SIGCONT)
    awake = time.monotonic()
    waiting.join(30)
    assert elapsed_since(awake) < 10, "the open request waited for its deadline"
    assert_processed_as_given(answers, {order_id: first_data(order_id) for order_id, _ in pairs})
    assert not other.has_unfinished()
