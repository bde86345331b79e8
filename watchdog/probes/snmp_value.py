"""From pysnmp's values to plain ones. RFC 2578 (SMIv2's types), RFC 3416, 3 (error-status, exceptions)."""

from __future__ import annotations

from typing import Any

from pyasn1.type import univ
from pysnmp.proto import rfc1905

from watchdog.probes.snmp_settings import Answer

EXCEPTIONS = {
    rfc1905.NoSuchObject.tagSet: "noSuchObject",
    rfc1905.NoSuchInstance.tagSet: "noSuchInstance",
    rfc1905.EndOfMibView.tagSet: "endOfMibView",
}


def answer(status: Any, index: Any, values: Any) -> Answer:
    """What a response's error-status, error-index and variable bindings (the second is the PID's) say."""
    if int(status):
        name = str(status.prettyPrint())
        return Answer(pid_error=name) if int(index) == 2 else Answer(error=name)
    if not values:
        return Answer(error="no variable binding")
    value, error = told(values[0][1])
    pid, pid_error = told(values[1][1]) if len(values) > 1 else (None, "")
    return Answer(value=value, error=error, pid=pid, pid_error=pid_error)


def told(value: Any) -> tuple[int | str | None, str]:
    """A value, or the name of the exception in its place."""
    exception = EXCEPTIONS.get(value.tagSet)
    return (plain(value), "") if exception is None else (None, exception)


def plain(value: Any) -> int | str:
    """An integer of any kind as an int, text as text, all else as pysnmp writes it."""
    if isinstance(value, univ.Integer):
        return int(value)
    if isinstance(value, univ.OctetString) and type(value).__name__ == "OctetString":
        return value.asOctets().decode("utf-8", "backslashreplace")  # type: ignore[no-any-return]
    return str(value.prettyPrint())
