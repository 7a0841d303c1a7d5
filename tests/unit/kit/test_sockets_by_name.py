from __future__ import annotations

import asyncio
from pathlib import Path

from mcpmesh.kit.sockets import client, host_of


async def test_a_name_of_a_socket_leads_to_it_and_others_to_their_ports(tmp_path: Path) -> None:
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()

    (tmp_path / "one").mkdir()
    private = await asyncio.start_unix_server(answer, tmp_path / "one" / "shim.sock")
    public = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = public.sockets[0].getsockname()[1]
    async with private, public, client(tmp_path, timeout=5.0) as http:
        for url in (f"http://{host_of('one', 'shim')}:11100/ready", f"http://127.0.0.1:{port}/ready"):
            assert (await http.get(url)).text == "ok"
    # Who listens knows none of the names that we have for it.
    assert [b"host: localhost\r\n" in head.lower() for head in heads] == [True, True]


async def test_the_connections_to_a_socket_that_is_gone_are_closed(tmp_path: Path) -> None:
    ended = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline() not in (b"", b"\r\n"):
            pass
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await reader.read()
        ended.set()
        writer.close()

    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one = await asyncio.start_unix_server(answer, tmp_path / "one" / "shim.sock")
    two = await asyncio.start_unix_server(answer, tmp_path / "two" / "shim.sock")
    async with one, two, client(tmp_path, timeout=5.0) as http:
        assert (await http.get(f"http://{host_of('one', 'shim')}/ready")).text == "ok"
        (tmp_path / "one" / "shim.sock").unlink()
        assert (await http.get(f"http://{host_of('two', 'shim')}/ready")).text == "ok"
        await asyncio.wait_for(ended.wait(), 5)
