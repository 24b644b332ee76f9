"""A mail server that takes everything: prints its port, and after COUNT mails the seconds from the first to the last.

    python -m bench.smtp_sink COUNT [SECONDS]

SECONDS is how long it takes to keep one mail, before it says so: a server that writes to a disk needs some.
"""

import asyncio
import sys
import time


class Sink:
    """One run."""

    def __init__(self, count: int, pause: float) -> None:
        self.count, self.pause = count, pause
        self.taken, self.first = 0, 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""

        def say(text: str) -> None:
            writer.write(f"{text}\r\n".encode())

        say("220 sink")
        while line := await reader.readline():
            verb = line.split(maxsplit=1)[0].upper() if line.split() else b""
            if verb == b"EHLO":
                say("250-sink\r\n250 PIPELINING")
            elif verb == b"DATA":
                say("354 go on")
                await reader.readuntil(b"\r\n.\r\n")
                if self.pause:
                    await asyncio.sleep(self.pause)
                self._took()
                say("250 taken")
            elif verb == b"QUIT":
                say("221 bye")
                break
            else:
                say("250 ok")
            await writer.drain()
        writer.close()

    def _took(self) -> None:
        now = time.perf_counter()
        self.first = self.first or now
        self.taken += 1
        if self.taken == self.count:
            print(now - self.first, flush=True)


async def main() -> None:
    """Serve until the process is ended."""
    count, *pause = sys.argv[1:]
    sink = Sink(int(count), float(pause[0]) if pause else 0.0)
    server = await asyncio.start_server(sink.serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
