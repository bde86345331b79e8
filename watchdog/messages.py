"""What the journal knows our lines by: a MESSAGE_ID for each kind of record and for each event of the daemon's own.

Rules of this file: an id is made once (`journalctl --new-id128`), never changed and never given to another kind: people
filter and alert by it. `systemd/epoll-watchdog.catalog` explains each one to whoever reads `journalctl -x`, and a test
holds the two together. Pure: what is logged where is not known here.

Facts: systemd.journal-fields(7), MESSAGE_ID=; systemd.io/CATALOG.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from watchdog.model import Record, RecordKind

FIELDS = "WATCHDOG_"  # what our own fields of the journal begin with
ID = "MESSAGE_ID"
TOLD = ("verdict", "certainty", "rung", "outcome", "reason")  # of a record's detail: what people filter by


class Event(enum.StrEnum):
    """What the daemon tells of itself, and is worth an explanation. No word of it is a record's kind, too."""

    STARTED = "started"
    CONFIG_READ = "config_read"
    CONFIG_REFUSED = "config_refused"
    LOOP_LATE = "loop_late"
    LOOP_ON_TIME = "loop_on_time"
    STOOD_STILL = "stood_still"
    HELPER_LOST = "helper_lost"
    HELPER_BACK = "helper_back"
    STORE_UNWRITABLE = "store_unwritable"
    STORE_WRITABLE = "store_writable"
    KERNEL_ADVISORY = "kernel_advisory"
    DEAD_MAN_FAILS = "dead_man_fails"
    DEAD_MAN_WORKS = "dead_man_works"
    DEAD_MAN_ALARM = "dead_man_alarm"
    LETTERS_LOST = "letters_lost"
    FAULT = "fault"


MESSAGES: Mapping[RecordKind | Event, str] = {
    RecordKind.OPENED: "e38cbf71db3e4e17bec5ff62c90c1a96",
    RecordKind.VERDICT: "5ad7c92c26004ec096be65547b8ce653",
    RecordKind.HELD: "13da03ee060b47538b89cc1f20360f26",
    RecordKind.PASSED: "f84200d8af6949c49ba8d5b731c21106",
    RecordKind.ACTING: "231e3cbc3a794a63b24a4c734fb573cd",
    RecordKind.NUDGED: "01cb473dc6ad4e2cbffea81257209583",
    RecordKind.RESTARTED: "76155df9f642483b87463ce2665de22a",
    RecordKind.CAPTURED: "4d41ebf279f24d30889fccffafd9ca2a",
    RecordKind.ANSWERED: "66d5e29016f84725855d5b0c0442b3fc",
    RecordKind.INTERRUPTED: "5f6b36b5ded74710a8d18ac5b26d042c",
    RecordKind.ESCALATED: "0ac21719f70648d1b959d3684948a2db",
    RecordKind.REMINDER: "da720e91e5c74f489cd2c11e091fd685",
    RecordKind.RETRYING: "22e9872870d64834beee72feb1fdc64b",
    RecordKind.EPOCH: "c4ae39ccdf6e4578b9be68d4e247b739",
    RecordKind.PAUSED: "248b82ba9e1542578ad696a30951b077",
    RecordKind.RESUMED: "3177b99248034b44b1bcd139c62c8305",
    RecordKind.ACKNOWLEDGED: "7da8e5dd78c8435f8297311c8d57bdd4",
    RecordKind.BELATED: "788d72b2ac0e42aab044b7363fe9a10f",
    RecordKind.RESOLVED: "a72c8eb224b24692baf7f1d3ff1319e1",
    Event.STARTED: "b7498a9a560149db82c55847e7af4ea4",
    Event.CONFIG_READ: "780e63eb5200466db75a3692130fb28e",
    Event.CONFIG_REFUSED: "9595bec2adbe49f2938ccf73669bdad7",
    Event.LOOP_LATE: "5cc91888b07f4a74afbaf4a81994ae43",
    Event.LOOP_ON_TIME: "11e8214ff22d4bafb8655b8709f76f54",
    Event.STOOD_STILL: "4a36793a80124c5dab698143ba7f1d53",
    Event.HELPER_LOST: "99e6c707540545e4bcb5d4a4c0d753ff",
    Event.HELPER_BACK: "71d2e7c90bf24ad086086548a5309271",
    Event.STORE_UNWRITABLE: "83081eaa579a4dc5aaacd98e1120533f",
    Event.STORE_WRITABLE: "469cbb0d85d64f4c9d5ab3cf6f9253f5",
    Event.KERNEL_ADVISORY: "a930c8a966784d89bc50645ee0ed5f42",
    Event.DEAD_MAN_FAILS: "70ba55d798a445f398255d5e38d15543",
    Event.DEAD_MAN_WORKS: "f71ae27c1e3245228aab347f666eca48",
    Event.DEAD_MAN_ALARM: "b9c4b9954e0541969f02a1f880332772",
    Event.LETTERS_LOST: "660ff5ef2c9c4e29a2d653a304bd639d",
    Event.FAULT: "54f89b38ec794221aa9dbdaef47eb62d",
}


def of_event(event: Event, **fields: str) -> dict[str, str]:
    """The journal's fields of a line about an event: `log.warning(…, extra=of_event(…, SERVICE="web"))`."""
    return {ID: MESSAGES[event], f"{FIELDS}KIND": str(event)} | {FIELDS + name: word for name, word in fields.items()}


def of_record(service: str, told: Record) -> dict[str, str]:
    """The journal's fields of a record's line."""
    fields: dict[str, object] = {"SERVICE": service, "KIND": told.kind}
    fields |= {"INCIDENT": told.incident, "SEVERITY": told.severity}
    fields |= {name.upper(): told.detail.get(name) for name in TOLD}
    words = {FIELDS + name: str(word) for name, word in fields.items() if isinstance(word, str) and word}
    return {ID: MESSAGES[told.kind], **words}
