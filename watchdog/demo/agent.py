"""An SNMP agent as the postmortem's server has one: a thread blocked in `recvfrom`, another road than the event loop's.

Answers GET and GETNEXT of v1 and v2c for a handful of objects; whoever asks with another community gets no answer, as
RFC 1157 section 4.1 has it. Made with `pysnmp.proto.api`: messages in and out, no engine.
RFC 3416; RavenDB's objects: https://ravendb.net/docs/article-page/latest/csharp/server/administration/snmp
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

SYS_DESCR = "1.3.6.1.2.1.1.1.0"
SYS_UPTIME = "1.3.6.1.2.1.1.3.0"
RAVENDB_PID = "1.3.6.1.4.1.45751.1.1.1.4"


class Agent:
    """Answers on the UDP socket `sock` in the thread that calls `run`."""

    def __init__(self, sock: socket.socket, community: str) -> None:
        # 65 ms [M], by which the first answer would be late.
        import pysnmp.proto.api  # noqa: F401

        self._sock = sock
        self._community = community.encode()
        self._objects = _objects()

    def run(self) -> None:
        """Serve for ever."""
        while True:
            datagram, peer = self._sock.recvfrom(65535)
            reply = self._reply(datagram)
            if reply:
                self._sock.sendto(reply, peer)

    def _reply(self, datagram: bytes) -> bytes | None:
        from pyasn1.codec.ber import decoder, encoder
        from pyasn1.error import PyAsn1Error
        from pysnmp.proto import api
        from pysnmp.proto.error import ProtocolError

        try:
            module = api.PROTOCOL_MODULES[api.decodeMessageVersion(datagram)]
            request, _ = decoder.decode(datagram, asn1Spec=module.Message())
        except (PyAsn1Error, ProtocolError, KeyError):
            return None  # nonsense, or v3
        if bytes(module.apiMessage.get_community(request)) != self._community:
            return None
        reply = module.apiMessage.get_response(request)
        asked = module.apiMessage.get_pdu(request)
        answer = module.apiMessage.get_pdu(reply)
        if asked.isSameTypeWith(module.GetRequestPDU()):
            self._get(module, asked, answer)
        elif asked.isSameTypeWith(module.GetNextRequestPDU()):
            self._get_next(module, asked, answer)
        else:
            module.apiPDU.set_error_status(answer, "genErr")
        encoded: bytes = encoder.encode(reply)
        return encoded

    def _get(self, module: Any, asked: Any, answer: Any) -> None:
        found = []
        missing = 0
        for index, (oid, nothing) in enumerate(module.apiPDU.get_varbinds(asked), start=1):
            value = self._objects.get(tuple(oid))
            found.append((oid, value(module) if value else nothing))
            missing = missing or (0 if value else index)
        module.apiPDU.set_varbinds(answer, found)
        if missing:
            module.apiPDU.set_no_such_instance_error(answer, missing)

    def _get_next(self, module: Any, asked: Any, answer: Any) -> None:
        found = []
        missing = 0
        for index, (oid, nothing) in enumerate(module.apiPDU.get_varbinds(asked), start=1):
            later = next((known for known in sorted(self._objects) if known > tuple(oid)), None)
            found.append((later, self._objects[later](module)) if later else (oid, nothing))
            missing = missing or (0 if later else index)
        module.apiPDU.set_varbinds(answer, found)
        if missing:
            module.apiPDU.set_end_of_mib_error(answer, missing)


def _objects() -> Mapping[tuple[int, ...], Callable[[Any], Any]]:
    started = time.monotonic()
    objects: dict[str, Callable[[Any], Any]] = {
        SYS_DESCR: lambda module: module.OctetString("the service that epoll-watchdog's demo guards"),
        SYS_UPTIME: lambda module: module.TimeTicks(int((time.monotonic() - started) * 100) % 2**32),
        RAVENDB_PID: lambda module: module.Integer(os.getpid()),
    }
    return {tuple(int(part) for part in oid.split(".")): value for oid, value in objects.items()}
