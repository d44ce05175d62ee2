"""Deliveries in every format, whole and hurt: what is good is decoded, what is bad is set aside with its own bytes."""

import gc
import json
import random
import resource
import sys
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from tests.corpus import FORMATS, Sample, api_write, array, corpus, large_samples, lines, log_record, user
from worker.auth0.wire import MAX_RECORDS, Decoded, decode_delivery
from worker.domain.events import interpret

RECORDS = [
    log_record(number=1),
    api_write("PATCH", "/api/v2/users/auth0%7C2", 2),
    log_record("sdu", 3),
    log_record("slo", 4),
]


def come_of(body: bytes) -> tuple[set[str], int]:
    """Return which users a delivery gives news of, and how many records are to be parked."""
    decoded = decode_delivery(body)
    meanings = [interpret(record) for record in decoded.records]
    marked = {news.user_id for meaning in meanings for news in meaning.news}
    return marked, len(decoded.bad) + sum(meaning.bad is not None for meaning in meanings)


# Formats


@pytest.mark.parametrize("write", FORMATS)
def test_every_format_says_the_same(write: Any) -> None:
    decoded = decode_delivery(write(*RECORDS))
    assert [record.type for record in decoded.records] == ["s", "sapi", "sdu", "slo"]
    assert [record.position for record in decoded.records] == [0, 1, 2, 3]
    assert [json.loads(record.raw()) for record in decoded.records] == RECORDS
    assert not decoded.bad


@pytest.mark.parametrize("write", FORMATS)
def test_a_bad_record_keeps_its_bytes_and_its_neighbours_theirs(write: Any) -> None:
    bad = b'{"log_id" :  "x", "data": {"type": 7, "user_id": "auth0|7"}}'
    decoded = decode_delivery(write(*RECORDS[:2], bad, *RECORDS[2:]))
    assert [(one.position, one.raw) for one in decoded.bad] == [(2, bad)]
    assert [record.position for record in decoded.records] == [0, 1, 3, 4]
    assert [json.loads(record.raw()) for record in decoded.records] == RECORDS


def test_details_are_what_was_sent_less_what_nobody_reads() -> None:
    record = decode_delivery(lines(RECORDS[1])).records[0]
    assert record.details == {
        "request": {"method": "PATCH", "path": "/api/v2/users/auth0%7C2", "query": {}, "body": None},
        "response": {"body": {}},
    }


def test_the_mark_of_our_own_writes_is_readable() -> None:
    marked = log_record(references={"correlation_id": "understudy-1"})
    odd = log_record(references="*****")
    found = [record.correlation_id for record in decode_delivery(lines(marked, odd, log_record())).records]
    assert found == ["understudy-1", None, None]


def test_a_body_cannot_set_what_is_ours() -> None:
    record = decode_delivery(
        lines({**log_record(), "data": {**log_record()["data"], "(position)": 9, "(origin)": 9}})
    ).records[0]
    assert record.position == 0
    assert json.loads(record.raw())["log_id"] == record.log_id


@pytest.mark.parametrize("write", [lines, array])
def test_what_follows_too_many_records_is_kept_as_one(write: Any) -> None:
    last = [log_record(number=n) for n in range(5)]
    decoded = decode_delivery(write(*[b"{}"] * (MAX_RECORDS - 2), *last))
    assert [record.position for record in decoded.records] == [MAX_RECORDS - 2, MAX_RECORDS - 1]
    assert decoded.bad[-1].position == MAX_RECORDS
    assert come_of(decoded.bad[-1].raw)[0] == {user(2), user(3), user(4)}


def test_nothing_personal_is_shown() -> None:
    decoded = decode_delivery(lines(log_record(number=1), log_record(number=2, type=3), b"{broken " + user(5).encode()))
    shown = repr(decoded) + repr(decoded.records) + repr(decoded.bad) + "".join(one.reason for one in decoded.bad)
    assert "listener" not in shown
    assert "auth0|" not in shown
    assert len(decoded.bad) == 2


# The corpus


@pytest.mark.parametrize("sample", corpus(), ids=lambda sample: sample.name)
def test_bad_input_costs_only_itself(sample: Sample) -> None:
    marked, parked = come_of(sample.body)
    assert marked == sample.applied
    assert sample.parked in (None, parked)


def test_sixteen_mebibytes_of_anything_are_bounded_in_memory() -> None:
    for sample in large_samples():
        before = _peak()
        marked, parked = come_of(sample.body)
        gc.collect()
        assert sample.applied <= marked
        assert sample.parked in (None, parked)
        assert _peak() - before < 200 << 20, sample.name


def _peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def test_the_corpus_is_the_same_for_the_same_seed() -> None:
    assert [sample.body for sample in corpus(7)] == [sample.body for sample in corpus(7)]


# Anything at all


@given(st.binary(max_size=2_000))
def test_no_bytes_make_it_raise(body: bytes) -> None:
    come_of(body)


@given(
    st.lists(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
            lambda inner: (
                st.lists(inner, max_size=4)
                | st.dictionaries(
                    st.sampled_from(["data", "detail", "type", "user_id", "details", "logs", "date", "a"]),
                    inner,
                    max_size=6,
                )
            ),
            max_leaves=15,
        ),
        max_size=6,
    )
)
def test_every_element_is_accounted_for(elements: list[Any]) -> None:
    for encoded in (json.dumps(elements), json.dumps(elements, indent=1)):
        decoded = decode_delivery(encoded.encode())
        positions = sorted([record.position for record in decoded.records] + [one.position for one in decoded.bad])
        assert positions == list(range(len(elements)))
        raw = {record.position: record.raw() for record in decoded.records} | {
            one.position: one.raw for one in decoded.bad
        }
        assert [_same(json.loads(raw[place])) for place in positions] == [_same(one) for one in elements]


def _same(value: Any) -> str:
    return json.dumps(value)  # NaN is not equal to itself


@st.composite
def hurt_lines(draw: st.DrawFn) -> tuple[bytes, int, int]:
    """Draw a delivery of lines in which one line has bytes changed, and say which and how many there are."""
    records = [json.dumps(one).encode() for one in draw(st.lists(st.sampled_from(RECORDS), min_size=1, max_size=5))]
    place = draw(st.integers(0, len(records) - 1))
    hurt = bytearray(records[place])
    for _ in range(draw(st.integers(1, 4))):
        hurt[draw(st.integers(0, len(hurt) - 1))] = draw(st.integers(0, 255).filter(lambda byte: byte != ord("\n")))
    records[place] = bytes(hurt)
    return b"\n".join(records), place, len(records)


@given(hurt_lines())
def test_a_hurt_line_hurts_no_other(drawn: tuple[bytes, int, int]) -> None:
    body, place, count = drawn
    if body.isspace() or not body.split(b"\n")[place].strip() or not body.lstrip().startswith(b"{"):
        return  # the hurt made it no line, or the body no lines
    decoded = decode_delivery(body)
    found = {record.position for record in decoded.records}
    assert found >= set(range(count)) - {place}
    assert found | {one.position for one in decoded.bad} == set(range(count))


@given(st.integers(0, 3), st.integers(), st.integers(1, 30))
@settings(max_examples=300)
def test_a_record_hurt_in_an_array_hurts_no_other(place: int, seed: int, size: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - reproducible, not unguessable
    hurt = bytearray(json.dumps(RECORDS[place]).encode())
    start = dice.randrange(12, len(hurt) - size)  # its first key is what tells where a record begins
    hurt[start : start + size] = dice.randbytes(dice.randrange(size))
    parts: list[object] = list(RECORDS)
    parts[place] = bytes(hurt)
    types = [record.type for record in decode_delivery(array(*parts)).records]
    others = [record["data"]["type"] for number, record in enumerate(RECORDS) if number != place]
    for code in others:
        assert types.count(code) >= others.count(code)


def test_an_empty_delivery_holds_nothing() -> None:
    assert decode_delivery(b"") == Decoded([], [])
