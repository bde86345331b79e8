"""The sockets that the server listens on: TCP, a Unix socket of our own, or those that systemd passes.

Rules of this file: a Unix socket is for its owner and group (mode 0660), from its first moment on; only such a one is
`private`, for its mode is what tells its clients from others. A stale socket of a daemon that was killed is replaced,
one that answers is not.

Facts: unix(7); sd_listen_fds(3): descriptors from 3 on, meant for the process that LISTEN_PID names.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

BACKLOG = 128
FIRST = 3  # SD_LISTEN_FDS_START
MODE = 0o660


class CannotListen(Exception):
    """The address can't be listened on; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that listens. `private`: whoever connects was let in by the mode of its file."""

    socket: socket.socket
    private: bool = False
    path: str = ""  # of a Unix socket that we made, and take away again
    host: str = ""  # as the configuration has it
    _inode: int = field(default=0, repr=False)

    @property
    def address(self) -> str:
        """ "host:port" with the real port, or "unix:/path"."""
        name = self.socket.getsockname()
        if self.socket.family == socket.AF_UNIX:
            return f"unix:{_path(name)}"
        host, port = name[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def local(self) -> bool:
        """Whether only this host reaches it."""
        if self.socket.family == socket.AF_UNIX:
            return True
        return ipaddress.ip_address(self.socket.getsockname()[0].partition("%")[0]).is_loopback

    def close(self) -> None:
        """No longer listen. The file goes too, unless it is another's by now."""
        self.socket.close()
        if self.path:
            with contextlib.suppress(OSError):
                if os.stat(self.path).st_ino == self._inode:  # noqa: PTH116
                    os.unlink(self.path)  # noqa: PTH108


def listeners(addresses: Iterable[str]) -> list[Listener]:
    """Of each address one socket (of "localhost" several, of "systemd" all that were passed). Raises `CannotListen`."""
    with contextlib.ExitStack() as stack:
        made = []
        for address in addresses:
            for listener in _listen(address):
                stack.callback(listener.close)
                made.append(listener)
        stack.pop_all()
        return made


def _listen(address: str) -> list[Listener]:
    try:
        if address == "systemd":
            return _passed()
        if address.startswith("unix:"):
            return [_unix(address.removeprefix("unix:"))]
        return _tcp(*_split(address))
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise CannotListen(f"can't listen on {address}: {why}") from error


def _split(address: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or port is None:
        raise CannotListen(f'can\'t listen on {address}: write host:port, such as "127.0.0.1:9797" or "[::1]:9797"')
    return host, port


def _tcp(host: str, port: int) -> list[Listener]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    made: list[Listener] = []
    with contextlib.ExitStack() as stack:
        for family, kind, protocol, _, name in dict.fromkeys(found):
            bound = stack.enter_context(socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol))
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            bound.bind(name)
            bound.listen(BACKLOG)
            made.append(Listener(bound, host=host))
        stack.pop_all()
    return made


def _unix(path: str) -> Listener:
    _remove_stale(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        os.fchmod(bound.fileno(), MODE)  # bind(2) makes the file with this mode, less the umask
        bound.bind(path)
        os.chmod(path, MODE)  # noqa: PTH101 (and the umask was stricter)
        bound.listen(BACKLOG)
        return Listener(bound, private=True, path=path, _inode=os.stat(path).st_ino)  # noqa: PTH116
    except BaseException:
        bound.close()
        raise


def _remove_stale(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return  # bind says that the address is in use
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as asked:
        try:
            asked.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)  # noqa: PTH108
        except BlockingIOError:
            pass  # somebody is there, and busy


def _passed() -> list[Listener]:
    """The sockets of the unit `Sockets=` or a `.socket` of our name; each is passed once, to nobody we start."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        raise CannotListen("can't listen on systemd: no socket was passed; start the daemon by its .socket unit")
    count = int(os.environ.get("LISTEN_FDS", "0"))
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    made = []
    for number in range(FIRST, FIRST + count):
        os.set_inheritable(number, False)
        given = socket.socket(fileno=number)
        given.setblocking(False)
        listens = given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        if given.type != socket.SOCK_STREAM or not listens:
            raise CannotListen(f"can't listen on systemd: descriptor {number} is no ListenStream= with Accept=no")
        made.append(Listener(given, private=given.family == socket.AF_UNIX and _is_private(_path(given.getsockname()))))
    return made


def _is_private(path: str) -> bool:
    """Whether not everybody may connect: that takes the right to write. An abstract socket has no mode."""
    try:
        return path.startswith("/") and not os.stat(path).st_mode & stat.S_IWOTH  # noqa: PTH116
    except OSError:
        return False


def _path(name: str | bytes) -> str:
    return name.replace(b"\0", b"@").decode(errors="replace") if isinstance(name, bytes) else name
