"""Invalid events: (name, event, words of which the error must contain one).

`OUTFLOW_EVENTS` are of the default bundle's type, `WIDE_EVENTS` of the wide type; `BODIES` are whole request bodies
that are no list of events.
"""

import json

from ledger_bundle import WIDE
from ledger_events import OUTFLOW

GOOD = {
    "type": OUTFLOW,
    "event_id": "good",
    "dt": "2024-01-01T00:00:00Z",
    "attributes": {"storage_id": 5, "product_id": 1},
    "debit": "1",
}
GOOD_WIDE = {**GOOD, "type": WIDE["name"], "attributes": {"client_id": 1, "currency": "EUR"}}
GONE = object()


def changed(event: dict, **fields) -> dict:
    """The event with other fields; `GONE` drops one."""
    return {name: value for name, value in {**event, **fields}.items() if value is not GONE}


def nested(depth: int):
    """A JSON value of so many arrays in one another."""
    value = []
    for _ in range(depth - 1):
        value = [value]
    return value


def _with_attributes(event: dict, **attributes) -> dict:
    return changed(event, attributes=changed(event["attributes"], **attributes))


_AMOUNTS = {
    "a number": 1,
    "a fraction": 12.5,
    "null": None,
    "a boolean": True,
    "a list": ["1"],
    "nothing": "",
    "a space": " ",
    "a space before": " 1",
    "a space after": "1 ",
    "a line after": "1\n",
    "a word": "one",
    "NaN": "NaN",
    "infinity": "Infinity",
    "an exponent": "1e3",
    "a small exponent": "1E-3",
    "a plus": "+1",
    "a minus": "-1",
    "minus zero": "-0",
    "a comma": "1,5",
    "two points": "1.2.3",
    "only a point": ".",
    "an underscore": "1_000",
    "hexadecimal": "0x10",
    "other digits": "\N{ARABIC-INDIC DIGIT ONE}\N{FULLWIDTH DIGIT TWO}",
    "16 digits before the point": "1" * 16,
    "16 digits and a fraction": "1" * 16 + ".5",
    "10 digits after the point": "0.0000000001",
    "thousands of digits": "9" * 5000,
}
_TIMES = {
    "no offset": "2026-01-01T00:00:00",
    "a date": "2026-01-01",
    "a word": "yesterday",
    "nothing": "",
    "a number": 1767225600,
    "null": None,
    "month 13": "2026-13-01T00:00:00Z",
    "30 February": "2026-02-30T00:00:00Z",
    "hour 25": "2026-01-01T25:00:00Z",
    "before 1970": "1969-12-31T23:59:59.999999Z",
    "before 1970 by its offset": "1970-01-01T00:00:00+01:00",
    "after 2100": "2101-01-01T00:00:00Z",
    "after 2100 by its offset": "2100-12-31T23:59:59-01:00",
    "year 10000": "10000-01-01T00:00:00Z",
    "an offset of 30 hours": "2026-01-01T00:00:00+30:00",
}
_SHAPES = {
    "no type": (changed(GOOD, type=GONE), ["type"]),
    "an empty type": (changed(GOOD, type=""), ["type"]),
    "an unknown type": (changed(GOOD, type="taxi"), ["type", "taxi"]),
    "a lock type": (changed(GOOD, type="storage_lock"), ["type", "storage_lock"]),
    "a numeric type": (changed(GOOD, type=7), ["type"]),
    "no event_id": (changed(GOOD, event_id=GONE), ["event_id"]),
    "an empty event_id": (changed(GOOD, event_id=""), ["event_id"]),
    "a numeric event_id": (changed(GOOD, event_id=7), ["event_id"]),
    "no dt": (changed(GOOD, dt=GONE), ["dt"]),
    "no attributes": (changed(GOOD, attributes=GONE), ["attributes", "storage_id"]),
    "empty attributes": (changed(GOOD, attributes={}), ["storage_id"]),
    "attributes that are a list": (changed(GOOD, attributes=[]), ["attributes"]),
    "neither debit nor credit": (changed(GOOD, debit=GONE), ["debit", "credit"]),
    "both debit and credit": (changed(GOOD, credit="1"), ["debit", "credit"]),
    "info that is text": (changed(GOOD, info="text"), ["info"]),
    "info nested too deep": (changed(GOOD, info={"deep": nested(40)}), ["info", "nest", "depth", "deep"]),
    "an unknown field": (changed(GOOD, colour="red"), ["colour"]),
    "a misspelt field": (changed(GOOD, debit=GONE, debitt="1"), ["debitt", "debit"]),
}
_KEY_VALUES = {
    "null": None,
    "text": "5",
    "a fraction": 1.5,
    "a boolean": True,
    "a list": [5],
    "64 bits and one": 2**63,
    "below 64 bits": -(2**63) - 1,
}
_WIDE_VALUES = {
    "a string that is a number": ("product", 5),
    "a string of 257 bytes": ("product", "x" * 257),
    "a string of 258 bytes in 129 letters": ("product", "ü" * 129),
    "a date that is a time": ("due", "2026-01-01T00:00:00Z"),
    "a date that is none": ("due", "2026-02-30"),
    "a date in another order": ("due", "01.02.2026"),
    "a bool as text": ("urgent", "true"),
    "a bool as a number": ("urgent", 1),
    "a uuid that is none": ("region", "6f0d2c6e"),
    "a uuid with other letters": ("region", "zf0d2c6e-0000-4000-8000-000000000001"),
    "an empty uuid": ("region", ""),
}

OUTFLOW_EVENTS = {
    **{f"debit: {name}": (changed(GOOD, debit=value), ["debit"]) for name, value in _AMOUNTS.items()},
    **{f"credit: {n}": (changed(GOOD, debit=GONE, credit=v), ["credit"]) for n, v in _AMOUNTS.items()},
    **{f"dt: {name}": (changed(GOOD, dt=value), ["dt"]) for name, value in _TIMES.items()},
    **{f"storage_id: {n}": (_with_attributes(GOOD, storage_id=v), ["storage_id"]) for n, v in _KEY_VALUES.items()},
    "an auxiliary attribute as text": (_with_attributes(GOOD, product_id="1"), ["product_id"]),
    "a missing key attribute": (_with_attributes(GOOD, storage_id=GONE), ["storage_id"]),
    "an unknown attribute": (_with_attributes(GOOD, colour="red"), ["colour"]),
    **_SHAPES,
}
WIDE_EVENTS = {
    **{n: (_with_attributes(GOOD_WIDE, **{name: v}), [name]) for n, (name, v) in _WIDE_VALUES.items()},
    "one of two key attributes": (_with_attributes(GOOD_WIDE, currency=GONE), ["currency"]),
}
_TEXT = json.dumps(GOOD)


def _written(event_text: str, rest: str = "") -> bytes:
    return f'{{"events": [{event_text}]{rest}}}'.encode()


BODIES = {
    "an empty body": (b"", []),
    "no JSON": (b"hello", []),
    "half a JSON": (_written(_TEXT)[:-5], []),
    "two JSONs": (_written(_TEXT) + b" " + _written(_TEXT), []),
    "no UTF-8": (b'{"events": ["\xff"]}', []),
    "half a surrogate pair": (_written(_TEXT.replace("good", "\\ud800")), []),
    "NaN": (_written(_TEXT.replace('"1"}', "NaN}")), []),
    "a list": (b"[]", ["events", "body"]),
    "null": (b"null", ["events", "body"]),
    "no events": (b"{}", ["events"]),
    "events that are an object": (b'{"events": {}}', ["events"]),
    "an event that is a number": (b'{"events": [7]}', ["events"]),
    "an empty event": (b'{"events": [{}]}', ["type", "event_id", "dt", "attributes"]),
    "an unknown field beside": (_written(_TEXT, ', "colour": 1'), ["colour"]),
    "a lock_id that is a number": (_written(_TEXT, ', "lock_id": 7'), ["lock_id"]),
    "an attribute twice": (_written(_TEXT.replace('"product_id"', '"storage_id"')), ["storage_id"]),
    "a field twice": (_written(_TEXT[:-1] + ', "debit": "2"}'), ["debit"]),
    "a hundred thousand brackets": (b'{"events": ' + b"[" * 100_000, []),
}
