"""Put the example's data where a Dataset finds it: one Parquet object a month.

    python -m flights.data upload --months 2-4 --endpoint http://127.0.0.1:8333 [--poison]
    python -m flights.data write --months 2-4 --out DIR
    python -m flights.data instances --months 6-8 --count 2000 > flights.jsonl

`upload` takes the credentials from SLIPWAY_S3_ACCESS_KEY and SLIPWAY_S3_SECRET_KEY and leaves an object alone that is
there with the same bytes, so repeating it makes no new dataset version.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from flights import tables

REQUEST_COLUMNS = ["carrier", "origin", "dest", "distance", "weekday", "dep_hour"]
"""What is known of a flight two hours before its departure, and what a request carries."""
YEAR = 2013


def objects(months: Sequence[int], *, poison: bool) -> Iterator[tuple[str, bytes]]:
    """Keys below `raw/` and bytes of the airlines, and of flights and weather of each month."""
    yield "airlines/airlines.parquet", parquet(tables.airlines())
    for month in months:
        name = f"{YEAR}-{month:02}.parquet"
        yield f"weather/{name}", parquet(tables.weather(month))
        rows = tables.poisoned_flights(month) if poison else tables.flights(month)
        yield f"flights/{name}", parquet(rows)


def parquet(rows: pd.DataFrame) -> bytes:
    """Equal rows give equal bytes."""
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata(), sink, compression="zstd")
    return sink.getvalue()


def instances(months: Sequence[int], count: int, *, carrier: str | None = None) -> list[dict[str, Any]]:
    """`count` flights of the months, evenly picked, as a request carries them; only the carrier's when one is named."""
    rows = pd.concat([tables.flights(month) for month in months], ignore_index=True)
    if carrier is not None:
        rows = rows[rows.carrier == carrier]
    picked = rows.iloc[:: max(1, len(rows) // count)].head(count)
    found: list[dict[str, Any]] = json.loads(picked[REQUEST_COLUMNS].to_json(orient="records"))
    return found


def months(text: str) -> list[int]:
    """`2-4` or `2,5` → numbers of months."""
    try:
        first, _, last = text.partition("-")
        found = list(range(int(first), int(last) + 1)) if last else [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(1 <= month <= 12 for month in found):
        raise argparse.ArgumentTypeError(f"{text!r} is no range of months such as 2-4 or 2,5")
    return found


def upload(args: argparse.Namespace) -> None:
    """Write objects to an S3 bucket, which is made when it is not there."""
    from minio import Minio

    url = urlsplit(args.endpoint)
    keys = [os.environ.get(name) for name in ("SLIPWAY_S3_ACCESS_KEY", "SLIPWAY_S3_SECRET_KEY")]
    client = Minio(
        endpoint=url.netloc, access_key=keys[0], secret_key=keys[1], secure=url.scheme == "https", region="us-east-1"
    )
    if not client.bucket_exists(bucket_name=args.bucket):
        client.make_bucket(bucket_name=args.bucket)
    present = {
        item.object_name: (item.etag or "").strip('"')
        for item in client.list_objects(bucket_name=args.bucket, prefix=args.prefix, recursive=True)
    }
    for name, data in objects(args.months, poison=args.poison):
        key = args.prefix + name
        if present.get(key) == hashlib.md5(data, usedforsecurity=False).hexdigest():
            print(f"{key} is there")
            continue
        client.put_object(bucket_name=args.bucket, object_name=key, data=io.BytesIO(data), length=len(data))
        print(f"{key} {len(data):,} bytes")


def write(args: argparse.Namespace) -> None:
    """Write objects to a folder."""
    for name, data in objects(args.months, poison=args.poison):
        path = Path(args.out) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def print_instances(args: argparse.Namespace) -> None:
    """Print instances as JSON lines."""
    for instance in instances(args.months, args.count, carrier=args.carrier):
        sys.stdout.write(json.dumps(instance) + "\n")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m flights.data", description="The flights example's data.")
    commands = top.add_subparsers(required=True)
    up = commands.add_parser("upload", help="Write objects to an S3 bucket.")
    up.add_argument("--endpoint", required=True, help="URL of the S3 API.")
    up.add_argument("--bucket", default="slipway")
    up.add_argument("--prefix", default="raw/", help="Put before each key.")
    up.set_defaults(run=upload)
    down = commands.add_parser("write", help="Write the same objects to a folder.")
    down.add_argument("--out", required=True, help="The folder.")
    down.set_defaults(run=write)
    show = commands.add_parser("instances", help="Print flights as instances of a request, one JSON object a line.")
    show.add_argument("--count", type=int, default=2000)
    show.add_argument("--carrier", help="Only this carrier's flights.")
    show.set_defaults(run=print_instances)
    for command in (up, down, show):
        command.add_argument("--months", type=months, required=True, help="Such as 2-4 or 2,5.")
    for command in (up, down):
        command.add_argument("--poison", action="store_true", help="Flights as a broken feed would deliver them.")
    return top


if __name__ == "__main__":
    arguments = parser().parse_args()
    arguments.run(arguments)
