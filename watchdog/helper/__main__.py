"""`python -m watchdog.helper --fd N --config PATH --ledger PATH`: the helper as the brain's child.

The descriptor is one end of a connected stream socket; the helper ends when the other end is closed. It keeps nothing
that a SIGKILL at any moment could spoil.
"""

from __future__ import annotations

import argparse
import functools
import gc
import os
import socket
import sys

from watchdog.helper.server import Server
from watchdog.helper.services import load_with_child


def main() -> int:
    """Serve until the peer has gone."""
    parser = argparse.ArgumentParser(prog="python -m watchdog.helper", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="a connected stream socket")
    parser.add_argument("--config", required=True, help="the TOML file that names the services")
    parser.add_argument("--ledger", required=True, help="where the helper keeps account of what it did")
    arguments = parser.parse_args()
    config = os.path.abspath(arguments.config)
    with socket.socket(fileno=arguments.fd) as peer:
        peer.set_inheritable(False)
        gc.collect()
        gc.freeze()  # what is loaded by now stays: a worker's pages stay shared
        Server(peer, config, os.path.abspath(arguments.ledger), functools.partial(load_with_child, config)).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
