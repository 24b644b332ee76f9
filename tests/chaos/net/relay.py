"""Delays what a container sends to a port, where the kernel has no netem: takes over new connections, hands bytes on.

Usage: relay.py PORT MILLISECONDS. Runs as root in the container's network; what root itself sends is let through.
"""

import asyncio
import socket
import struct
import subprocess
import sys

LISTEN = 15999
SO_ORIGINAL_DST = 80


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    """Hand on each piece `delay` seconds after it came, in order, without holding up the next."""
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
    now = asyncio.get_running_loop().time

    async def later() -> None:
        while True:
            due, piece = await pieces.get()
            await asyncio.sleep(due - now())
            if not piece:
                writer.close()
                return
            writer.write(piece)
            await writer.drain()

    sender = asyncio.create_task(later())
    try:
        while piece := await reader.read(65536):
            pieces.put_nowait((now() + delay, piece))
    except ConnectionError:
        pass
    pieces.put_nowait((now(), b""))
    await asyncio.gather(sender, return_exceptions=True)


async def main(port: int, delay: float) -> None:
    """Relay until the container is stopped."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        original = writer.get_extra_info("socket").getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
        _, there, address = struct.unpack("!HH4s8x", original)
        try:
            far_reader, far_writer = await asyncio.open_connection(socket.inet_ntoa(address), there)
        except OSError:
            writer.close()
            return
        await asyncio.gather(pump(reader, far_writer, delay), pump(far_reader, writer, delay))

    server = await asyncio.start_server(serve, "0.0.0.0", LISTEN)
    redirect = f"-t nat -A OUTPUT -p tcp --dport {port} -m owner ! --uid-owner 0 -j REDIRECT --to-ports {LISTEN}"
    subprocess.run(["iptables", *redirect.split()], check=True)
    print("relaying", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]) / 1000))
