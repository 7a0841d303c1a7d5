from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from mcpmesh.kit.unix_http import http_client, socket_host


async def test_a_socket_host_is_reached_at_its_socket_and_other_hosts_over_tcp(tmp_path: Path) -> None:
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
    async with private, public, http_client(tmp_path, timeout=60.0) as http:
        for url in (f"http://{socket_host('one', 'shim')}:11100/ready", f"http://127.0.0.1:{port}/ready"):
            assert (await http.get(url)).text == "ok"
    # The servers don't know our names for them.
    assert [b"host: localhost\r\n" in head.lower() for head in heads] == [True, True]


async def test_connections_to_removed_sockets_are_closed(tmp_path: Path) -> None:
    open_: set[asyncio.StreamWriter] = set()
    ended = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_.add(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await reader.read()
        open_.remove(writer)
        ended.set()
        writer.close()

    async with AsyncExitStack() as stack:
        for name in "abcd":
            (tmp_path / name).mkdir()
            await stack.enter_async_context(await asyncio.start_unix_server(answer, tmp_path / name / "shim.sock"))
        http = await stack.enter_async_context(http_client(tmp_path, timeout=60.0))

        async def ask(*names: str) -> None:
            answers = await asyncio.gather(*(http.get(f"http://{socket_host(name, 'shim')}/ready") for name in names))
            assert {each.text for each in answers} == {"ok"}

        await ask("a", "b")
        for name in "ab":
            (tmp_path / name / "shim.sock").unlink()
        await ask("c", "d")
        async with asyncio.timeout(60):
            while len(open_) > 2:
                ended.clear()
                await ended.wait()
