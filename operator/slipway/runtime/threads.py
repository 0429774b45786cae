"""Blocking work (S3, files) in a bounded pool of threads, so that the event loop never waits for it."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from slipway.runtime.errors import Unavailable

T = TypeVar("T")

POOL_SIZE = 8
_pool = ThreadPoolExecutor(POOL_SIZE, thread_name_prefix="slipway-blocking")


async def in_thread(
    function: Callable[..., T],
    *arguments: Any,
    timeout: float = 30.0,  # noqa: ASYNC109 - becomes an error of our own
    what: str = "",
) -> T:
    """Run a blocking function in the pool and wait at most `timeout` seconds, the wait for a free thread included.

    A thread cannot be stopped: after a timeout it keeps its place in the pool until the function returns, so give the
    function a timeout of its own as well.

    :param what: names the work in the error, e.g. `the artifact store`
    :raises Unavailable: the time is over
    """
    loop = asyncio.get_running_loop()
    context = contextvars.copy_context()
    future = loop.run_in_executor(_pool, lambda: context.run(function, *arguments))
    try:
        return await asyncio.wait_for(future, timeout)
    except TimeoutError as error:
        if future.done() and not future.cancelled():  # the function itself raised TimeoutError
            raise
        name = what or getattr(function, "__name__", "blocking work")
        raise Unavailable(f"{name} did not answer within {timeout:g} s.", reason="Timeout") from error
