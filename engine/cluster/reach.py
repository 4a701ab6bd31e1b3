"""Does anybody listen at an address? Free of Ray."""

import socket
import time


def reachable(address: str, *, seconds: float) -> bool:
    """Whether host:port takes a connection within about ``seconds``; one that is refused is the answer at once."""
    host, _, port = address.rpartition(":")
    limit = time.monotonic() + seconds
    while True:
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=max(0.1, limit - time.monotonic())):
                return True
        except (ConnectionRefusedError, socket.gaierror):
            return False
        except OSError:
            if time.monotonic() >= limit:
                return False
            time.sleep(0.2)
