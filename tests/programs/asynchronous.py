"""A Python program that does much at once: asynchronous connections, child processes, threads, files. ECHO PORT FILE."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading


async def _echo(host: str, port: int, number: int) -> bool:
    reader, writer = await asyncio.open_connection(host, port)
    sent = f"task {number}".encode() * 1000
    writer.write(sent)
    writer.write_eof()
    back = await reader.read(-1)
    writer.close()
    await writer.wait_closed()
    return back == sent


async def _all(host: str, port: int) -> int:
    return sum(await asyncio.gather(*(_echo(host, port, number) for number in range(30))))


def main() -> None:
    """Prints one line for each thing done."""
    host, port, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    print("asyncio", asyncio.run(_all(host, port)))
    ends = [subprocess.run(["/bin/sh", "-c", f"exit {number}"], check=False).returncode for number in range(10)]
    print("subprocess", ends)
    sizes = []

    def read() -> None:
        with open(path, "rb") as file:
            sizes.append(len(file.read()))

    threads = [threading.Thread(target=read) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("threads", len(sizes), set(sizes))
    with socket.create_connection((host, port), timeout=10) as connection:
        print("peer", connection.getpeername()[:2] == (host, port))
    pid = os.fork()
    if pid == 0:
        os._exit(3)
    print("fork", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


if __name__ == "__main__":
    main()
