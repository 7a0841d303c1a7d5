"""A client in a process of its own, there to be killed: `python -m tests.soak.client PORT SESSIONS`.

Opens that many sessions, each with a GET stream and a call that is never
answered, says "open", and does nothing more.
"""

from __future__ import annotations

import asyncio
import sys

from tests.soak.ways import Client
from tests.soak.wire import legacy


async def main(port: int, sessions: int) -> None:
    """Until it is killed."""
    for _ in range(sessions):
        client = await Client.open(port)
        listener = await client.another()
        listener.begin(legacy(client.session, b"", verb="GET"))
        client.connection.begin(client.call("never"))
    print("open", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
