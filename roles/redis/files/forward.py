#!/usr/bin/python3 -IB
"""What comes to the place that Redis had on this host (playbooks/move.yml) goes on to where it is now, by TLS.

forward.py HOST PORT listens at 6379 for the containers of this host, and at 6390 by TLS for other hosts.
"""

import asyncio
import contextlib
import os
import ssl
import sys

AUTHORITY = "/etc/forward/ca.crt"
SECRETS = "/run/secrets"


async def carry(reader, writer):
    """Bytes of one direction, until its end."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        with contextlib.suppress(OSError):
            writer.close()


async def serve(reader, writer, host, port, context):
    """One client, and its connection to the server that there is now; where one of the two ends, so does the other."""
    try:
        there = await asyncio.wait_for(asyncio.open_connection(host, port, ssl=context), 10)
    except (OSError, TimeoutError):
        writer.close()
        return
    ways = [asyncio.create_task(carry(reader, there[1])), asyncio.create_task(carry(there[0], writer))]
    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    for way in ways:
        way.cancel()
    await asyncio.gather(*ways, return_exceptions=True)
    writer.close()
    there[1].close()


async def main(host, port):
    """Serve until the container is stopped."""
    ahead = ssl.create_default_context(cafile=AUTHORITY)

    def client(reader, writer):
        return serve(reader, writer, host, port, ahead)

    doors = [await asyncio.start_server(client, "", 6379)]
    if os.path.exists(f"{SECRETS}/redis_tls_key"):
        own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        own.load_cert_chain(f"{SECRETS}/redis_tls_certificate", f"{SECRETS}/redis_tls_key")
        doors.append(await asyncio.start_server(client, "", 6390, ssl=own))
    await asyncio.gather(*(door.serve_forever() for door in doors))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1], int(sys.argv[2])))
