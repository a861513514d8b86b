"""Clients of the paths that `chaos_load.py` leaves out, one thread each: states, locks, reads, tasks, action configs
and the configurator. Each repeats until answered; a refusal of a retry that its own earlier call may have caused is not
final.
"""

import itertools
import time

import grpc

import background_tasks
import event_client
from background_load import Background
from client import OrderClient
from history import UNKNOWN_CODES
from ledger_client import Answer, LostAnswer
from ledger_events import FIRST_MOMENT, INFLOW, LAST_MOMENT, LOCK, OUTFLOW, STATE, outflow
from waiting import elapsed_since, wait_until

ANSWERED_WITHIN = 60
# Of their own: no order and no writer posts there.
LOCK_KEY, STATE_KEY, ACCOUNT = {"storage_id": 501}, {"storage_id": 502}, 501
LOCK_SECONDS = 30
TEMPLATE = """
type: module
name: global
inputs: [{name: name, scope: general}]
blocks:
  - name: account
    type: integration
    integration: platform.set_account_type
    inputs: [global.name]
    outputs: [{name: name}]
    args:
      name: $global.name
      description: of a template
      key_attributes: [{name: courier_id, type: int}]
      attributes: [{name: product_id, type: int}]
      groupings: []
      shard_key: [courier_id]
      aggregate: day
  - name: rule
    type: integration
    integration: platform.set_action_config
    inputs: [account.name]
    args:
      name: $account.name
      on: [{event: never-sent}]
      action: {task: noop, params: {}}
"""
EMPTY = "type: module\nname: global\ninputs: [{name: name, scope: general}]\nblocks: []\n"


class PathClient(Background):
    """Asks until it is answered."""

    def __init__(self, name: str, ledger):
        super().__init__(name)
        self.ledger, self.rounds, self.slowest = ledger, itertools.count(1), 0.0

    def ask(self, method: str, path: str, body=None, headers=None) -> tuple[Answer, bool]:
        """The first answer that is one, and whether an earlier try may have done it."""
        return self.until_answered(lambda: self.ledger.call(method, path, body, headers), f"{method} {path}")

    def until_answered(self, call, what: str) -> tuple[Answer, bool]:
        repeated, begun = False, time.monotonic()
        while True:
            try:
                answer = call()
                if answer.status not in (429, 503):
                    self.slowest = max(self.slowest, elapsed_since(begun))
                    return answer, repeated
            except LostAnswer:
                pass
            assert elapsed_since(begun) < ANSWERED_WITHIN, f"{what}: no answer"
            repeated = True
            self.stop.wait(0.1)

    def must(self, call, what: str, *statuses: int):
        return self.until_answered(call, what)[0].ok(*statuses)


class States(PathClient):
    """Writes one state again and again, each time from the version before."""

    version = 0

    def step(self) -> None:
        content = {"n": next(self.rounds)}
        put = lambda: self.ledger.put_state(STATE, STATE_KEY, content, self.version)  # noqa: E731
        answer, repeated = self.until_answered(put, f"state {content}")
        if answer.status == 409:
            assert repeated, f"state {content} from version {self.version} refused at once: {answer.body!r}"
        else:
            answer.ok(200, 201)
        stored = self.must(lambda: self.ledger.state(STATE, STATE_KEY), "the state")
        assert (stored["version"], stored["state"]) == (self.version + 1, content), f"{stored} after {content}"
        self.version += 1
        self.stop.wait(0.2)


class Locks(PathClient):
    """Takes a lock, writes under it, and lets it go."""

    def __init__(self, ledger):
        super().__init__("locks", ledger)
        self.events: list[dict] = []

    def step(self) -> None:
        number = next(self.rounds)
        wanted = {"ttl": LOCK_SECONDS, "wait_seconds": 2, "request_id": f"request-{number}"}
        begun = time.monotonic()
        answer, _ = self.until_answered(lambda: self.ledger.lock(LOCK, LOCK_KEY, **wanted), "a lock")
        if answer.status == 409:
            # The one of the round before, whose release came to nothing.
            self.stop.wait(1)
            return
        lock, event = answer.ok(200, 201)["lock_id"], outflow(ACCOUNT, "1", f"locked-{number}")
        self.must(lambda: self.ledger.look(lock), "the lock")
        self.must(lambda: self.ledger.extend(lock, LOCK_SECONDS), "more time")
        written, _ = self.until_answered(lambda: self.ledger.batch([event], [], lock_id=lock), "a write under a lock")
        if written.status == 409:
            assert elapsed_since(begun) > LOCK_SECONDS, f"refused under a living lock: {written.body!r}"
            self.must(lambda: self.ledger.write([event]), "the same write without one")
        else:
            written.ok(200, 201)
        self.events.append(event)
        self.until_answered(lambda: self.ledger.release(lock), "the release")
        self.stop.wait(0.2)


class Reads(PathClient):
    """Whatever can be looked at."""

    def step(self) -> None:
        account = {"storage_id": 1 + next(self.rounds) % 40}
        for path in ("/v1/types", "/v1/shards", event_client.CONFIGS, "/configurator/v1/runs", "/configurator/v1/templates"):
            self.ask("GET", path)[0].ok(200)
        self.must(lambda: self.ledger.balances(OUTFLOW, account), "a balance", 200, 404)
        self.must(lambda: self.ledger.balances(INFLOW, {"pickup_point_id": 1}, group_by=["product_id"]), "balances", 200, 404)
        period = (FIRST_MOMENT, LAST_MOMENT)
        self.must(lambda: self.ledger.turnovers(OUTFLOW, account, *period), "turnovers", 200, 404)
        self.must(lambda: self.ledger.page(OUTFLOW, account, *period, limit=50), "a page", 200, 404)
        self.must(lambda: self.ledger.get(event_client.EVENTS, limit=20, sort="-_id"), "events")
        self.must(lambda: self.ledger.get(background_tasks.PATH, limit=20), "tasks")
        self.stop.wait(0.2)


class Tasks(PathClient):
    """Posts under keys of its own, waits for the end, and cancels every other one."""

    def step(self) -> None:
        number = next(self.rounds)
        post = lambda: background_tasks.post(self.ledger, "noop", task_key=f"task-{number}")  # noqa: E731
        task = self.must(post, "a task", 200, 201)["id"]
        assert self.must(post, "the same task", 200, 201)["id"] == task, "one key, two tasks"
        if number % 2:
            self.ask("POST", f"{background_tasks.PATH}/{task}/cancel")
        look = lambda: self.must(lambda: self.ledger.get(f"{background_tasks.PATH}/{task}"), "the task")  # noqa: E731
        wait_until(lambda: look()["status"] in background_tasks.ENDED, ANSWERED_WITHIN, f"the end of task {task}", every=0.2)
        self.stop.wait(0.2)


class Configs(PathClient):
    """Writes an action config, changes it, and deletes it."""

    def step(self) -> None:
        number = next(self.rounds)
        config = event_client.on("of-a-path", f"never-sent-{number}", "noop")
        path = f"{event_client.CONFIGS}/{config['name']}"
        self.ask("PUT", path, config)[0].ok(200, 201)
        self.ask("PUT", path, {**config, "on": [{"event": f"changed-{number}"}]})[0].ok(200, 201)
        answer, repeated = self.ask("DELETE", path)
        if answer.status == 404:
            assert repeated, "a config that was just written is not there"
        else:
            answer.ok(200, 204)
        self.stop.wait(0.3)


class Runs(PathClient):
    """Runs of one template, in turn one that makes objects and one that deletes them."""

    PATH = "/configurator/v1/runs"

    def step(self) -> None:
        template = TEMPLATE if next(self.rounds) % 2 else EMPTY
        body = {"template_name": "chaos", "env": "test", "template": template, "general_inputs": {"name": "of_a_path"}}
        answer, repeated = self.ask("POST", self.PATH, body)
        if answer.status == 409:
            assert repeated, f"a run was refused, though none goes on: {answer.body!r}"
            run = self.ask("GET", f"{self.PATH}?template_name=chaos&limit=1")[0].ok()["result"][0]["run_id"]
        else:
            run = answer.ok(200, 201)["run_id"]
        ended = wait_until(lambda: self._ended(run), 120, f"the end of run {run}", every=0.2)
        assert ended["status"] == "succeeded", ended
        self.stop.wait(0.3)

    def _ended(self, run: int) -> dict | None:
        found = self.ask("GET", f"{self.PATH}/{run}")[0].ok()
        return None if found["status"] == "running" else found


class OrderReads(PathClient):
    """Looks at orders, singly and in pages."""

    def __init__(self, address: str):
        super().__init__("order reads", None)
        self.client = OrderClient(address)

    def step(self) -> None:
        for look in (lambda: self.client.page(size=50), lambda: self.client.has_unfinished(), lambda: self.client.knows(1)):
            try:
                look()
            except grpc.RpcError as error:
                assert error.code() in UNKNOWN_CODES, f"a look at orders: {error}"
        self.stop.wait(0.3)

    def end(self) -> None:
        self.client.close()
