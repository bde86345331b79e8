"""SNMP versions 1 and 2c: messages with a community. RFC 1157, RFC 1901, RFC 3416.

Made and read by `pysnmp.proto.api` alone: the engine of version 3 costs more memory and more time a request.
"""

from __future__ import annotations

from collections.abc import Callable

from pyasn1.codec.ber import decoder, encoder
from pyasn1.error import PyAsn1Error
from pysnmp.proto.api import v1, v2c

from watchdog.probes import snmp_value
from watchdog.probes.snmp_settings import Answer, Settings
from watchdog.secret import reveal


class CommunityTalk:
    """One request, and its answer known by the request's id."""

    def __init__(self, settings: Settings, oids: tuple[str, ...]) -> None:
        assert settings.community is not None
        self._api = v1 if settings.version == "1" else v2c
        pdu = self._api.GetRequestPDU()
        self._api.apiPDU.set_defaults(pdu)
        self._api.apiPDU.set_varbinds(pdu, [(oid, self._api.Null("")) for oid in oids])
        self._id = int(self._api.apiPDU.get_request_id(pdu))
        message = self._api.Message()
        self._api.apiMessage.set_defaults(message)
        self._api.apiMessage.set_community(message, reveal(settings.community))
        self._api.apiMessage.set_pdu(message, pdu)
        self._data: bytes = encoder.encode(message)

    def request(self, send: Callable[[bytes], object]) -> None:
        """The same message each time: the first answer to any of them counts."""
        send(self._data)

    def answer(self, data: bytes, send: Callable[[bytes], object]) -> Answer | None:
        """None for what is no answer to this request."""
        try:
            message, _ = decoder.decode(data, asn1Spec=self._api.Message())
            pdu = self._api.apiMessage.get_pdu(message)
        except PyAsn1Error:
            return None
        if not pdu.isSameTypeWith(self._api.GetResponsePDU()) or int(self._api.apiPDU.get_request_id(pdu)) != self._id:
            return None
        pdus = self._api.apiPDU
        return snmp_value.answer(pdus.get_error_status(pdu), pdus.get_error_index(pdu), pdus.get_varbinds(pdu))
