"""Places in the log: an offset for each partition. Pure."""

from collections.abc import Mapping

Offsets = dict[int, int]
"""An offset by partition."""


def records(begin: Mapping[int, int], end: Mapping[int, int]) -> int:
    """How many records lie between two places, at most."""
    return sum(max(0, end[place] - begin.get(place, 0)) for place in end)


def later(one: Mapping[int, int], other: Mapping[int, int]) -> Offsets:
    """Of each partition the later of two places; a partition that one lacks counts as 0 there."""
    return {place: max(one.get(place, 0), other.get(place, 0)) for place in {*one, *other}}


def earlier(one: Mapping[int, int], other: Mapping[int, int]) -> Offsets:
    """Of each partition the earlier of two places; of a partition that one lacks, the other's."""
    return {**one, **{place: min(offset, one.get(place, offset)) for place, offset in other.items()}}


def covers(done: Mapping[int, int], wanted: Mapping[int, int]) -> bool:
    """Whether everything before the offsets `wanted` is before the offsets `done`."""
    return all(done.get(place, 0) >= offset for place, offset in wanted.items())
