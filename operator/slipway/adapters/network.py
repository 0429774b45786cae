"""Whether something listens at an address."""

from __future__ import annotations

import asyncio

TIMEOUT = 3.0


class Network:
    """Opens TCP connections to see whether they are accepted."""

    async def refuses(self, host: str, port: int) -> str:
        """Why nothing answers at `host:port`; empty when a connection was accepted."""
        try:
            async with asyncio.timeout(TIMEOUT):
                _, writer = await asyncio.open_connection(host, port)
        except TimeoutError:
            return f"no answer within {TIMEOUT:g} s"
        except OSError as error:
            return error.strerror or str(error)
        writer.close()
        return ""
