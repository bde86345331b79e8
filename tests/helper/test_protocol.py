"""The lines between brain and helper, and what is made of lines that are none."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog.helper.protocol import (
    MAX_REPLY,
    MAX_REQUEST,
    Lines,
    Nonsense,
    Reply,
    Request,
    encode_reply,
    encode_request,
    parse_reply,
    parse_request,
)
from watchdog.model import Outcome
from watchdog.reading import Epoll, Watch


def test_a_request_survives_its_line() -> None:
    request = Request(7, "examine", "ravendb", 4711, 123456, "0123456789abcdef", copy=1)
    assert parse_request(encode_request(request).rstrip(b"\n")) == request


def test_a_reply_survives_its_line() -> None:
    reply = Reply(7, Outcome.DONE, "1 thread nudged", {"threads": [{"tid": 1}]})
    assert parse_reply(encode_reply(reply).rstrip(b"\n")) == reply


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "the line is no JSON"),
        (b"\xff\x00", "the line is no JSON"),
        (b"[" * 4000, "the line is no JSON"),
        (b"[]", "the line is no JSON object"),
        (b"{}", "id must be a number, 0 or more"),
        (b'{"id": true, "verb": "nudge"}', "id must be a number, 0 or more"),
        (b'{"id": 1.5, "verb": "nudge"}', "id must be a number, 0 or more"),
        (b'{"id": 1}', "verb is missing"),
        (b'{"id": 1, "verb": 2}', "verb must be a string"),
        (b'{"id": 1, "verb": "nudge", "pid": -1}', "pid must be a number, 0 or more"),
        (b'{"id": 1, "verb": "nudge", "pid": 1e400}', "pid must be a number, 0 or more"),
        (b'{"id": 1, "verb": "examine", "copy": true}', "copy must be a number, 0 or more"),
        (b'{"id": 1, "verb": "nudge", "argv": ["sh"]}', "unknown key 'argv'"),
        (None, f"the line is longer than {MAX_REQUEST} bytes"),
    ],
)
def test_nonsense_is_told_in_one_line(line: bytes | None, reason: str) -> None:
    with pytest.raises(Nonsense) as caught:
        parse_request(line)
    assert str(caught.value) == reason


def test_nonsense_keeps_the_id_it_was_about() -> None:
    with pytest.raises(Nonsense) as caught:
        parse_request(b'{"id": 5, "verb": "nudge", "pid": "1"}')
    assert caught.value.id == 5


@given(st.binary(max_size=200))
def test_no_bytes_break_the_parsers(line: bytes) -> None:
    with pytest.raises(Nonsense):
        parse_request(b"\x00" + line)
    with pytest.raises(Nonsense):
        parse_reply(b"\x00" + line)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda v: st.dictionaries(st.text(), v)))
def test_no_json_breaks_the_parsers(value: object) -> None:
    line = json.dumps({"id": value, "outcome": value, "reason": value, "detail": value}).encode()
    with pytest.raises(Nonsense):
        parse_reply(line)
    with pytest.raises(Nonsense):
        parse_request(line)


def test_a_detail_too_long_for_a_line_is_left_out_and_that_is_told() -> None:
    line = encode_reply(Reply(1, Outcome.DONE, "much", {"text": "x" * MAX_REPLY}))
    assert parse_reply(line.rstrip(b"\n")).detail["omitted_bytes"] > MAX_REPLY
    assert parse_reply(line.rstrip(b"\n")).reason == "much"


def test_a_reason_of_several_lines_becomes_one() -> None:
    assert parse_reply(encode_reply(Reply(1, Outcome.FAILED, "a\n  b\r\nc")).rstrip(b"\n")).reason == "a b c"


@given(st.lists(st.binary(max_size=12)), st.integers(1, 7))
def test_lines_come_whole_however_they_are_cut(parts: list[bytes], size: int) -> None:
    stream = b"\n".join(part.replace(b"\n", b"") for part in parts) + b"\n"
    lines = Lines(8)
    got = [line for at in range(0, len(stream), size) for line in lines.feed(stream[at : at + size])]
    assert got == [line if len(line) <= 8 else None for line in stream[:-1].split(b"\n")]


def test_a_long_line_in_small_pieces_costs_no_more_than_in_one() -> None:
    """Were the pieces copied at each, this would be 64 GiB of copying."""
    lines = Lines(MAX_REPLY)
    assert [got for _ in range(MAX_REPLY // 8) for got in lines.feed(b"12345678")] == []
    assert lines.feed(b"\n") == [b"12345678" * (MAX_REPLY // 8)]


def test_a_frozen_value_in_a_detail_goes_as_its_fields_and_a_tuple_as_an_array() -> None:
    epoll = Epoll(1, 4, (Watch(5, 0x19, 6),))
    reply = parse_reply(encode_reply(Reply(1, Outcome.DONE, "", {"epolls": (epoll,)})).rstrip(b"\n"))
    told = {"pid": 1, "fd": 4, "watches": [[5, 0x19, 6]], "omitted": 0, "readable": None}
    assert reply.detail == {"epolls": [told]}


def test_an_endless_line_is_not_kept() -> None:
    lines = Lines(MAX_REQUEST)
    assert [got for _ in range(256) for got in lines.feed(b"x" * 4096)] == []
    assert lines.feed(b"\n{}\n") == [None, b"{}"]
