"""A host's name is resolved in bounded time."""

import socket
import threading


def resolve(host: str, port: int, seconds: float) -> None:
    """Find out that `host` has an address, within `seconds`.

    `getaddrinfo` knows no timeout: where the name server is silent, as for a container that is down on a network
    without a way out, it takes ten seconds (measured), whatever the timeout of the connection that is to be made. Here
    a thread waits in the caller's place, and ends by itself.

    Raises:
        TimeoutError: nobody knew in time.
        OSError: there is no such host.
    """
    failed: list[OSError] = []
    done = threading.Event()

    def ask() -> None:
        try:
            socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            failed.append(error)
        finally:
            done.set()

    threading.Thread(target=ask, name=f"resolve {host}", daemon=True).start()
    if not done.wait(seconds):
        raise TimeoutError(f"the name {host} was not resolved within {seconds:.1f} s: is the host up?")
    if failed:
        raise failed[0]
