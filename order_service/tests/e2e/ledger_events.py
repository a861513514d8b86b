"""Builders of ledger events of the default bundle's two account types; conversion of times."""

import datetime
import uuid

OUTFLOW, INFLOW = "storage_outflow", "pickup_point_inflow"
LOCK, STATE = "storage_lock", "storage_state"
# 200 days of events from here on still lie in the past.
_LONG_AGO = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=230)
START = _LONG_AGO.replace(hour=0, minute=0, second=0, microsecond=0)
# Everything the ledger may hold lies between the two.
FIRST_MOMENT, LAST_MOMENT = "1970-01-01T00:00:00Z", "2100-12-31T23:59:59.999999Z"


def written_time(moment: datetime.datetime) -> str:
    """RFC 3339 with the moment's own offset and all six digits."""
    return moment.isoformat(timespec="microseconds")


def read_time(text: str) -> datetime.datetime:
    """A time of an answer, which must carry its offset."""
    moment = datetime.datetime.fromisoformat(text)
    assert moment.tzinfo is not None, f"no offset: {text}"
    return moment


def utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def new_id(prefix: str = "e") -> str:
    return f"{prefix}-{uuid.uuid4()}"


def outflow(storage_id: int, amount: str = "1", event_id: str | None = None, at=START, **more) -> dict:
    """A debit on `storage_outflow`; `more`: auxiliary attributes, and `info`."""
    return _event(OUTFLOW, {"storage_id": storage_id}, "debit", amount, event_id, at, more)


def inflow(pickup_point_id: int, amount: str = "1", event_id: str | None = None, at=START, **more) -> dict:
    """A credit on `pickup_point_inflow`; `more`: auxiliary attributes, and `info`."""
    return _event(INFLOW, {"pickup_point_id": pickup_point_id}, "credit", amount, event_id, at, more)


def _event(type_name, key, side, amount, event_id, at, more) -> dict:
    info = {"info": more.pop("info")} if "info" in more else {}
    event = {"type": type_name, "event_id": event_id or new_id(), "dt": at if isinstance(at, str) else written_time(at)}
    return {**event, "attributes": {**key, **more}, side: amount, **info}


def statuses(answer) -> list[str]:
    """The status of each event, of an answer that carries results."""
    assert "results" in answer.json(), f"{answer.status}: {answer.body[:600]!r}"
    return [result["status"] for result in answer.json()["results"]]
