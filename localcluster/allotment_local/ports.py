"""Free ports for a new cluster."""

import contextlib
import socket

from allotment_local.errors import InvalidInputError
from allotment_local.specification import Ports


def free_ports(address: str, *, api: int | None = None) -> Ports:
    """Let the system choose ports that nobody uses.

    All are held open until all are chosen, so that they differ. Another program may still take one before its component
    does; who starts the components tries again with others then.

    Args:
        address: what the API server will listen on; all other ports are of 127.0.0.1.
        api: the API server's port, if it must be a certain one.

    Raises:
        InvalidInputError: that port is taken, or the address is not this machine's.
    """
    with contextlib.ExitStack() as stack:

        def choose(host: str, port: int = 0) -> int:
            held = stack.enter_context(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET))
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
            try:
                held.bind((host, port))
            except OSError as error:
                raise InvalidInputError(
                    f"Port {port} of {host} cannot be used: {error.strerror}."
                    if port
                    else f"{host} is no address of this machine: {error.strerror}.",
                    hint="End the program that uses it, choose another port, or leave the choice to us."
                    if port
                    else "Choose an address that `ip address` lists.",
                ) from error
            return int(held.getsockname()[1])

        local = "127.0.0.1"
        return Ports(
            api=choose(address, api or 0),
            etcd_client=choose(local),
            etcd_peer=choose(local),
            controllers=choose(local),
            scheduler=choose(local),
        )
