"""What clients send: bodies within limits, and the rows that they hold."""

import asyncio
import json
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from tfew_jax.experiment import mixed

_DROPPED_BYTES = 32 << 20  # beyond the limit


async def read_json(
    request: Request, *, max_bytes: int, seconds: float, default: Any = None
) -> dict[str, Any]:
    """The object that a body holds.

    Args:
        request: Whose body it is.
        max_bytes: Of the body.
        seconds: In which it must have come.
        default: What an empty body holds; None where that is a mistake.

    Raises:
        HTTPException: If it is too large or too slow, or no JSON object.
    """
    try:
        body = await _read(request, max_bytes, seconds)
    except ClientDisconnect:
        raise HTTPException(400, "the client went away") from None
    if not body and default is not None:
        return default
    try:
        content = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        line = " ".join(str(error).split())
        raise HTTPException(400, f"the body is not JSON in UTF-8: {line}") from None
    if not isinstance(content, dict):
        raise HTTPException(
            400, f"the body must be a JSON object, found {type(content).__name__}"
        )
    return content


async def _read(request: Request, limit: int, seconds: float) -> bytes:
    """The body; of one that is too large all is read that may come, and dropped.

    A client that still sends would find its connection reset, and no answer.
    """
    length = request.headers.get("content-length", "")
    declared = int(length) if length.isdecimal() else 0
    parts, size, most = [], 0, limit + _DROPPED_BYTES
    is_late = False
    try:
        async with asyncio.timeout(seconds):
            if declared <= most:
                async for part in request.stream():
                    size += len(part)
                    if size > most:
                        break
                    if size <= limit:
                        parts.append(part)
    except TimeoutError:
        is_late = True
    if max(declared, size) > limit:
        raise HTTPException(
            413,
            f"the body is larger than {limit:,} bytes; send fewer rows a request",
            headers={"connection": "close"},
        )
    if is_late:
        raise HTTPException(
            408,
            f"the body did not come within {seconds:g} seconds",
            headers={"connection": "close"},
        )
    return b"".join(parts)


def rows_of(
    content: dict[str, Any], max_rows: int
) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of a body without the names of their adapters, and these.

    Args:
        content: The body.
        max_rows: Most rows of a request.

    Raises:
        HTTPException: If there are none or too many, or a row names no adapter or
            another one than the request.
    """
    if unknown := sorted(set(content) - {"rows", "adapter"}):
        raise HTTPException(400, f"unknown {unknown[0]!r}; a body has rows and adapter")
    rows, adapter = content.get("rows"), content.get("adapter")
    if not isinstance(rows, list) or not rows:
        raise HTTPException(400, "rows must be a list of one object or more")
    if len(rows) > max_rows:
        raise HTTPException(
            413, f"{len(rows)} rows; a request may have {max_rows}, so send several"
        )
    if adapter is not None and not isinstance(adapter, str):
        raise HTTPException(400, "adapter must be the name of an adapter, as text")
    names, left = [], []
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise HTTPException(
                400, f"row {number}: expected an object, found {type(row).__name__}"
            )
        names.append(_name_of(row, number, adapter))
        left.append({k: v for k, v in row.items() if k != mixed.ADAPTER_FIELD})
    return left, names


def _name_of(row: dict[str, Any], number: int, adapter: str | None) -> str:
    name = row.get(mixed.ADAPTER_FIELD, adapter)
    if not isinstance(name, str) or not name:
        raise HTTPException(
            400,
            f"row {number}: names no adapter; give 'adapter' for all rows or in each "
            "of them",
        )
    if adapter is not None and name != adapter:
        raise HTTPException(
            400,
            f"row {number}: names the adapter {name!r}, but the request {adapter!r}; "
            "give 'adapter' for all rows or in each of them",
        )
    return name
