"""TCP ports on loopback: which are free, and what to say of one that is not.

Law: a port that somebody chose is taken or refused, never exchanged for another.
"""

from __future__ import annotations

import socket

from local_stack.failures import StackFailed

LOOPBACK = "127.0.0.1"


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # as servers do: a port in TIME_WAIT is free
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def free_port(preferred: int | None = None, host: str = LOOPBACK) -> int:
    """The preferred port if it is free, else any free one."""
    if preferred is not None and is_free(preferred, host):
        return preferred
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def taken(port: int, what: str, remedy: str) -> str:
    """The sentence for a chosen port that somebody else holds.

    >>> taken(8080, "the API", "--http-port")
    'Port 8080, chosen for the API, is taken by another program or not allowed: choose another with --http-port.'
    """
    return f"Port {port}, chosen for {what}, is taken by another program or not allowed: choose another with {remedy}."


def require_free(port: int, *, what: str, remedy: str, host: str = LOOPBACK) -> None:
    """Refuse a chosen port that cannot be listened on."""
    if not is_free(port, host):
        raise StackFailed(taken(port, what, remedy))
