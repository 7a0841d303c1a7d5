"""A client in a process of its own, which is going to be killed: `python -m tests.soak.client SESSIONS PORT...`.

Opens that many sessions at each shim, each with a GET stream and a call that
is never answered; and beside each a modern call and a subscription. Then it
says "open", and does nothing more.
"""

from __future__ import annotations

import asyncio
import sys

from tests.soak.http_client import legacy
from tests.soak.legacy_drops import Client
from tests.soak.modern_drops import calling, listening

# A session, a modern call, a subscription.
CALLERS = 3


async def main(sessions: int, ports: list[int]) -> None:
    """Run until the process is killed."""
    for port in ports:
        for _ in range(sessions):
            client = await Client.open(port)
            listener = await client.another()
            listener.begin(legacy(client.session, b"", verb="GET"))
            client.connection.begin(client.call("never"))
            await calling(port)
            await listening(port)
    print("open", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), [int(word) for word in sys.argv[2:]]))
