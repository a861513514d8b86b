"""Independent computation of the shard of an account, lock or state, by the specification.

`name=value` pairs sorted by name, everything but RFC 3986's unreserved characters percent-encoded, joined by `&`; SHA-1
of that; the first byte selects one of the four default shards.
"""

import hashlib
import itertools
from urllib.parse import quote

DEFAULT_RANGES = {"s0": (0x00, 0x3F), "s1": (0x40, 0x7F), "s2": (0x80, 0xBF), "s3": (0xC0, 0xFF)}


def canonical(attributes: dict) -> str:
    """The canonical form of shard-key attributes whose values are already canonical text, int or bool."""
    words = {True: "true", False: "false"}
    texts = {name: words[value] if isinstance(value, bool) else str(value) for name, value in attributes.items()}
    # `quote` leaves letters, digits and _ . - ~ alone: the unreserved ones, if nothing else is called safe.
    return "&".join(f"{quote(name, safe='')}={quote(texts[name], safe='')}" for name in sorted(texts))


def sha1_hex(attributes: dict) -> str:
    return hashlib.sha1(canonical(attributes).encode()).hexdigest()


def shard_of(attributes: dict, ranges: dict = DEFAULT_RANGES) -> str:
    first = int(sha1_hex(attributes)[:2], 16)
    (name,) = [name for name, (low, high) in ranges.items() if low <= first <= high]
    return name


def ids_on(shard: str, name: str = "storage_id", start: int = 1, ranges: dict = DEFAULT_RANGES):
    """Endless: the integers from `start` on that lie on `shard` when `name` is the shard key."""
    return (number for number in itertools.count(start) if shard_of({name: number}, ranges) == shard)


def one_id_per_shard(name: str = "storage_id", start: int = 1, ranges: dict = DEFAULT_RANGES) -> dict[str, int]:
    return {shard: next(ids_on(shard, name, start, ranges)) for shard in ranges}
