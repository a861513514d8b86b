"""Independent HTTP client of the ledger: plain JSON, one keep-alive connection per thread.

It does not judge answers: every call returns an `Answer`; only a call without an answer raises (`LostAnswer`).
"""

import contextlib
import dataclasses
import http.client
import json
import select
import threading
from urllib.parse import quote, urlencode


class LostAnswer(Exception):
    """The connection ended before the answer did: the call may have happened or not."""


class Starting(LostAnswer):
    """The service is there again, and not ready yet: nothing has happened."""


@dataclasses.dataclass(frozen=True)
class Answer:
    status: int
    headers: dict
    body: bytes

    def json(self):
        return json.loads(self.body)

    def error(self) -> dict:
        """The error object of the one error vocabulary: `code`, `message`, `args`."""
        error = self.json()["error"]
        assert isinstance(error["code"], str) and isinstance(error["message"], str), error
        return error

    def code(self) -> str | None:
        return None if self.status < 400 else self.error()["code"]

    def ok(self, *statuses: int):
        """The JSON of an answer that must have one of `statuses` (200 if none is given)."""
        expected = self.status in (statuses or (200,))
        if not expected and self.status == 503 and b"the service is starting" in self.body:
            raise Starting(self.body.decode())
        assert expected, f"{self.status}: {self.body[:600]!r}"
        return self.json() if self.body else None

    def refused(self, status: int, code: str) -> dict:
        """The error of an answer that must be exactly this refusal."""
        assert self.status == status and self.code() == code, f"{self.status}: {self.body[:600]!r}"
        return self.error()


class LedgerClient:
    """One ledger's HTTP port; safe to share between threads."""

    def __init__(self, port: int, timeout: float = 60):
        self.port, self.timeout = port, timeout
        self._own, self._all, self._lock = threading.local(), [], threading.Lock()

    # -- the wire ------------------------------------------------------------------------------------------------

    def _connection(self) -> http.client.HTTPConnection:
        connection = getattr(self._own, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout)
            self._own.connection = connection
            with self._lock:
                self._all.append(connection)
        # Readable without a question: the server has closed it meanwhile (a restart, an idle limit).
        if connection.sock is not None and select.select([connection.sock], [], [], 0)[0]:
            connection.close()
        return connection

    def call(self, method: str, path: str, body=None, headers: dict | None = None) -> Answer:
        """`body`: bytes go as they are, anything else as JSON; `headers` replace the defaults, None drops one."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        named = {"Content-Type": "application/json"} if data is not None else {}
        named = {name: value for name, value in {**named, **(headers or {})}.items() if value is not None}
        connection = self._connection()
        try:
            # Refused in the middle of the body: the answer may be there all the same.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, path, body=data, headers=named)
            if connection.sock is None:
                raise ConnectionResetError("the connection was refused while it was made")
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        except (OSError, http.client.HTTPException) as problem:
            connection.close()
            raise LostAnswer(f"{method} {path[:80]}: {problem!r}") from problem

    def get(self, path: str, **query) -> Answer:
        """Parameters that are None are left out, booleans are spelled as in JSON, the rest by `str`."""
        words = {True: "true", False: "false"}
        pairs = [(k, words[v] if isinstance(v, bool) else v) for k, v in query.items() if v is not None]
        return self.call("GET", path + ("?" + urlencode(pairs) if pairs else ""))

    def close(self) -> None:
        with self._lock:
            for connection in self._all:
                connection.close()

    # -- events and what is read from them -----------------------------------------------------------------------

    def write(self, events: list, lock_id: str | None = None) -> Answer:
        return self.call("POST", "/v1/events", {"events": events, **({"lock_id": lock_id} if lock_id else {})})

    def batch(self, events: list, states: list, lock_id: str | None = None) -> Answer:
        whole = {"events": events, "states": states, **({"lock_id": lock_id} if lock_id else {})}
        return self.call("POST", "/v1/batch", whole)

    def balances(self, type_name: str, key: dict, at=None, group_by=None, **filters) -> Answer:
        grouping = ",".join(group_by) if group_by else None
        return self.get(f"/v1/balances/{quote(type_name)}", **key, at=at, group_by=grouping, **filters)

    def turnovers(self, type_name: str, key: dict, since, until, group_by=None, **filters) -> Answer:
        grouping = ",".join(group_by) if group_by else None
        period = {"from": since, "to": until}
        return self.get(f"/v1/turnovers/{quote(type_name)}", **key, **period, group_by=grouping, **filters)

    def page(self, type_name: str, key: dict, since=None, until=None, limit=None, token=None) -> Answer:
        period = {"from": since, "to": until}
        return self.get(f"/v1/events/{quote(type_name)}", **key, **period, limit=limit, page_token=token)

    def listing(self, type_name: str, key: dict, since=None, until=None, limit=None) -> list:
        """Every event of the account in the period, page after page."""
        found, token = [], None
        while True:
            page = self.page(type_name, key, since, until, limit, token).ok()
            assert limit is None or len(page["events"]) <= limit
            found.extend(page["events"])
            token = page.get("next_page_token")
            if not token:
                return found

    # -- locks and states ----------------------------------------------------------------------------------------

    def lock(self, type_name: str, attributes: dict, mode: str = "exclusive", ttl: int = 30, **more) -> Answer:
        """`more`: wait_seconds, owner, request_id."""
        wanted = {"type": type_name, "attributes": attributes, "mode": mode, "ttl_seconds": ttl, **more}
        return self.call("POST", "/v1/locks", wanted)

    def look(self, lock_id: str) -> Answer:
        return self.get(f"/v1/locks/{lock_id}")

    def extend(self, lock_id: str, ttl: int) -> Answer:
        return self.call("PATCH", f"/v1/locks/{lock_id}", {"ttl_seconds": ttl})

    def release(self, lock_id: str) -> Answer:
        return self.call("DELETE", f"/v1/locks/{lock_id}")

    def state(self, type_name: str, attributes: dict) -> Answer:
        return self.get(f"/v1/states/{quote(type_name)}", **attributes)

    def put_state(self, type_name: str, attributes: dict, state, if_match) -> Answer:
        """`if_match` is sent as it is given: a bare number or a quoted one."""
        path = f"/v1/states/{quote(type_name)}?{urlencode(attributes)}"
        return self.call("PUT", path, json.dumps(state).encode(), {"If-Match": str(if_match)})

    # -- the rest ------------------------------------------------------------------------------------------------

    def feed(self, shard: str, after: int = 0, limit=None, wait_seconds=None) -> Answer:
        return self.get(f"/v1/feed/{shard}", after=after, limit=limit, wait_seconds=wait_seconds)

    def types(self) -> dict:
        return self.get("/v1/types").ok()

    def shards(self) -> dict:
        """Shard name -> its entry in `GET /v1/shards`."""
        return {shard["name"]: shard for shard in self.get("/v1/shards").ok()["shards"]}

    def events_stored(self) -> dict:
        """Shard name -> the exact number of committed events."""
        return {name: shard["events"] for name, shard in self.shards().items()}
