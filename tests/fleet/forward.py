"""Forwards a port to another port of the same host. When it is killed, connections are refused and no data is lost.

python -m tests.fleet.forward FROM_PORT TO_PORT [DELAY_S]

DELAY_S: each 64 KiB that is sent back are delayed by so many seconds, as on a slow and busy line.
"""

from __future__ import annotations

import asyncio
import sys


async def main(from_port: int, to_port: int, delay_s: float = 0) -> None:
    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", to_port)
        await asyncio.gather(_copied(reader, there_writer), _copied(there_reader, writer, delay_s))

    server = await asyncio.start_server(forward, "0.0.0.0", from_port)  # noqa: S104 - of a namespace's own network
    async with server:
        await server.serve_forever()


async def _copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float = 0) -> None:
    try:
        while data := await reader.read(1 << 16):
            await asyncio.sleep(delay_s)
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), *map(float, sys.argv[3:])))
