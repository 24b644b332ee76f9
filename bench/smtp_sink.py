"""A mail server that takes everything, and keeps nothing: prints its port, and serves until it is ended.

    python -m bench.smtp_sink [SECONDS]

SECONDS is how long it takes to keep one mail, before it says so: a server that writes to a disk needs some.
"""

import asyncio
import sys
from contextlib import suppress


async def serve(pause: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection."""

    def say(text: str) -> None:
        writer.write(f"{text}\r\n".encode())

    say("220 sink")
    # A worker that is ended in the middle of a mail.
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while line := await reader.readline():
            verb = line.split(maxsplit=1)[0].upper() if line.split() else b""
            if verb == b"EHLO":
                say("250-sink")
                say("250 PIPELINING")
            elif verb == b"DATA":
                say("354 go on")
                await writer.drain()
                await reader.readuntil(b"\r\n.\r\n")
                if pause:
                    await asyncio.sleep(pause)
                say("250 taken")
            elif verb == b"QUIT":
                say("221 bye")
                break
            else:
                say("250 ok")
            await writer.drain()
    writer.close()


async def main(pause: float) -> None:
    """Serve until the process is ended."""
    server = await asyncio.start_server(lambda reader, writer: serve(pause, reader, writer), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 0.0))
