"""Byte streams to devices, with a deadline on everything and no reply ever taken for another's."""

from drivers.links.link import ExchangeCut, Link, MalformedReply, Wire, cause
from drivers.links.transports import (
    SerialTransport,
    TcpTransport,
    Transport,
    check_line,
    open_line,
    parse_address,
)

__all__ = [
    "ExchangeCut",
    "Link",
    "MalformedReply",
    "SerialTransport",
    "TcpTransport",
    "Transport",
    "Wire",
    "cause",
    "check_line",
    "open_line",
    "parse_address",
]
