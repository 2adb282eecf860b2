"""The listener: the socket on which a server waits, and the address that people open."""

import ipaddress
import socket

from headstart.base.errors import DataError


def listen(host: str, port: int, remedy: str) -> socket.socket:
    """Return a socket that listens.

    Args:
        host: Address or name to listen on.
        port: Port; 0 takes any free one.
        remedy: What the user can do if that fails. The message ends with it.

    Raises:
        DataError: The address cannot be listened on.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError) as error:
        raise DataError(f"cannot listen on {host}, port {port}: {error}. {remedy}") from error
    # Connections inherit this option. Without it the end of each answer waits 40 ms until the client acknowledges the
    # start.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def origin_of(host: str, listener: socket.socket) -> str:
    """Return the first part of a server's address, such as `http://127.0.0.1:8000`."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address or name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
