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


def answer(status: Any, values: Any) -> Answer:
    """What a response's error-status and variable bindings say."""
    if int(status):
        return Answer(error=str(status.prettyPrint()))
    if not values:
        return Answer(error="no variable binding")
    value = values[0][1]
    exception = EXCEPTIONS.get(value.tagSet)
    if exception is not None:
        return Answer(error=exception)
    return Answer(value=plain(value))


def plain(value: Any) -> int | str:
    """An integer of any kind as an int, text as text, all else as pysnmp writes it."""
    if isinstance(value, univ.Integer):
        return int(value)
    if isinstance(value, univ.OctetString) and type(value).__name__ == "OctetString":
        return value.asOctets().decode("utf-8", "backslashreplace")  # type: ignore[no-any-return]
    return str(value.prettyPrint())
