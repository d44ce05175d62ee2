"""`understudy`: the commands of an operator and of a developer."""

import json
import secrets
import sys
from datetime import timedelta
from importlib import import_module
from importlib.metadata import version
from typing import Annotated

import typer
from redis.exceptions import RedisError
from rich.console import Console
from sqlalchemy.exc import SQLAlchemyError

from worker import views
from worker.commands import parked
from worker.commands.doctor import doctor
from worker.commands.forget import forget
from worker.commands.process import lent_parts
from worker.errors import Error
from worker.logs import configure, describe, fingerprint, frames
from worker.progress import watching
from worker.settings import settings
from worker.setup import run as setup
from worker.setup.credentials import Credentials
from worker.store import notes, pushes, schema, users
from worker.store.session import make_engine, reaching_postgresql
from worker.sync.brake import BRAKED, RESTORED
from worker.sync.drain import drain as drain_source
from worker.sync.everyone import incomplete, not_read
from worker.sync.verify import as_json as drift_as_json, shown
from worker.sync.wish import choose_plan

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A local, always-correct copy of an Auth0 tenant's users, in your own PostgreSQL database. "
    "Settings come from the environment: see .env.example.",
)
db = typer.Typer(no_args_is_help=True, help="The database's schema.")
plan = typer.Typer(no_args_is_help=True, help="The plans of people.")
token = typer.Typer(no_args_is_help=True, help="The tokens that Auth0's streams send us.")
cli.add_typer(db, name="db")
cli.add_typer(plan, name="plan")
cli.add_typer(token, name="token")
cli.add_typer(parked.commands, name="parked")
cli.command()(doctor)
cli.command()(forget)


def _say_version(wanted: bool) -> None:
    if wanted:
        print(f"understudy {version('understudy')}")
        raise typer.Exit


@cli.callback()
def _understudy(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Say which release this is, and exit."),
    ] = False,
) -> None: ...


@cli.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="The same, for programs.")] = False) -> None:
    """Say in one screen how the copy is; exit 1 when something needs a human."""
    with lent_parts() as parts:
        report = views.status(parts.settings, budget=parts.budget)
    if as_json:
        print(json.dumps(report.as_dict(), indent=2))
    else:
        views.show(report, Console())
    raise typer.Exit(1 if report.problems else 0)


@cli.command()
def drain() -> None:
    """Drain the inbox now, in this process."""
    with lent_parts() as parts:
        configure(parts.settings, sys.stderr)
        drained = sum(drain_source(parts.engine, source, go_on=lambda: True) for source in parts.sources)
    print(f"drained {drained} {'delivery' if drained == 1 else 'deliveries'}")


@cli.command()
def backfill() -> None:
    """Load the whole tenant, or go on where an earlier run was stopped; exit 1 where somebody could not be read.

    By an export job; where Auth0 refuses one, by searches for windows of created_at.
    """
    with lent_parts() as parts, watching("loading the tenant") as watch:
        configure(parts.settings, sys.stderr)
        done = parts.backfill(watch).run()
    print(f"{done.users} users read, {done.written} rows written")
    if done.bad:
        print(not_read(done.bad))
    if done.unread:
        print(incomplete(done.unread))
    raise typer.Exit(1 if done.bad or done.unread else 0)


@cli.command()
def verify(
    repair: Annotated[bool, typer.Option("--repair", help="Mend what differs.")] = False,
    allow_deletes: Annotated[
        int, typer.Option("--allow-deletes", min=0, help="With --repair: let this many deletions pass the brake.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="The same, for programs.")] = False,
) -> None:
    """Compare the whole tenant with the copy, field by field; exit 1 on drift. Users are shown as in log lines."""
    if allow_deletes and not repair:
        raise typer.BadParameter("--allow-deletes goes with --repair: without it nothing is deleted")
    with lent_parts() as parts, watching("comparing") as watch:
        configure(parts.settings, sys.stderr)
        drift = parts.verify(watch, repair=repair, allow_deletes=allow_deletes).run()

    def hide(user_id: str) -> str:
        return fingerprint(user_id, settings().fingerprint_key)

    print(json.dumps(drift_as_json(drift, hide), indent=2) if as_json else "\n".join(shown(drift, hide)))
    raise typer.Exit(0 if drift.total == drift.mended and drift.is_whole else 1)


@cli.command()
def brake(
    recheck: Annotated[
        bool,
        typer.Option(
            "--recheck",
            help="Ask the tenant again about each of these deletions, and about today's other unannounced ones; "
            "compare each of these roles again.",
        ),
    ] = False,
    allow_deletes: Annotated[
        int, typer.Option("--allow-deletes", min=0, help="Let this many users be deleted, the longest waiting first.")
    ] = 0,
    allow_roles: Annotated[
        int, typer.Option("--allow-roles", min=0, help="Let this many users lose a role, the longest waiting first.")
    ] = 0,
    trust: Annotated[
        bool,
        typer.Option(
            "--trust", help="This database's counts are right, restored or not: roles may be taken away again."
        ),
    ] = False,
) -> None:
    """Look at deletions that nothing announced, and at roles to be taken away, that were stopped for being too many; and answer."""
    with lent_parts() as parts, parts.engine.begin() as connection:
        if recheck:
            print(f"{users.recheck_deletions(connection)} users will be asked for again")
            print(f"{pushes.recheck_removals(connection)} users' roles will be compared again")
        if trust and notes.end_condition(connection, RESTORED):
            print(f"{pushes.recheck_removals(connection)} users' roles will be compared again")
        if allow_deletes:
            print(f"{users.allow_deletions(connection, allow_deletes)} deletions may pass")
        if allow_roles:
            print(f"{pushes.allow_removals(connection, allow_roles)} users may lose a role")
        deletions, removals = users.braked(connection), pushes.braked(connection)
        if not (recheck or allow_deletes or allow_roles or trust):
            print(f"{deletions} deletions wait for an answer: `understudy brake --recheck` or `--allow-deletes N`")
            print(f"{removals} losses of a role wait for one: `understudy brake --recheck` or `--allow-roles N`")
        for left, condition in ((deletions, "deletions_braked"), (removals, BRAKED)):
            if not left:
                notes.end_condition(connection, condition)


@plan.command("set")
def set_plan(user_id: str, name: Annotated[str, typer.Argument(metavar="PLAN")]) -> None:
    """Give USER_ID the plan PLAN: shown at once, in Auth0's app_metadata within seconds."""
    with lent_parts() as parts:
        with parts.engine.begin() as connection:
            choose_plan(connection, user_id, name)
        parts.doorbell.ring("push")
    print("the plan is set")


@cli.command("fingerprint")
def show_fingerprint(user_id: str) -> None:
    """Say by which name USER_ID appears in log lines."""
    print(fingerprint(user_id, settings().fingerprint_key))


@db.command()
def upgrade() -> None:
    """Apply the migrations; safe to run at every release, twice at once too."""
    # No time limit: to build an index on a large table may take minutes.
    engine = make_engine(settings(), pool_size=1, statement_timeout=timedelta(0))
    with reaching_postgresql():
        revision = schema.upgrade(engine)
        with engine.connect() as connection:
            schema.claim_tenant(connection, settings().auth0_domain)
    print(f"the database is at revision {revision}, a copy of {settings().auth0_domain}")


@token.command()
def new() -> None:
    """Make a token for a log stream: put it into LOG_STREAM_TOKENS and into the stream's "Authorization Token"."""
    print(secrets.token_urlsafe(32))


@cli.command("setup")
def set_up(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what it would change.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Take away what setup made, and nothing else.")] = False,
    send_tokens: Annotated[
        bool,
        typer.Option("--send-tokens", help="Give the streams the first of their tokens again, after it was rotated."),
    ] = False,
) -> None:
    """Connect the tenant: the log stream, the event stream and the Action; run again, it mends what is not as it should be.

    Needs PUBLIC_URL, the streams' tokens, and credentials of its own: AUTH0_SETUP_CLIENT_ID and AUTH0_SETUP_CLIENT_SECRET.
    """
    changes = setup.connect(
        settings(), Credentials.from_environment(), say=print, remove=remove, dry_run=dry_run, send_tokens=send_tokens
    )
    if not changes:
        print("nothing to change")


def _develop(module: str, *arguments: object) -> None:
    """Run a development command; production installs do not carry what it needs."""
    try:
        import_module(module).main(*arguments)
    except ModuleNotFoundError as error:
        raise Error(
            f"this is a development command and needs the development dependencies ({error.name} is missing): "
            "run it from a checkout, after `make venv`"
        ) from None


@cli.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def simulator(context: typer.Context) -> None:
    """Run an Auth0 tenant to develop and test against (all its options: `understudy simulator --help`)."""
    _develop("simulator.__main__", context.args)


@cli.command()
def services() -> None:
    """Run only an embedded PostgreSQL and Redis, and print their URLs."""
    _develop("local.services")


@cli.command()
def dev() -> None:
    """Run everything here: PostgreSQL, Redis, a simulated tenant, web, worker and beat; print the URLs, logs by process."""
    _develop("local.dev")


def main() -> None:
    """Run the command line; what goes wrong is one sentence on standard error."""
    try:
        cli()
    except Error as error:
        print(f"understudy: {error}", file=sys.stderr)
        sys.exit(2)
    except RedisError:
        print("understudy: Redis cannot be reached at REDIS_URL: is it running, is the URL right?", file=sys.stderr)
        sys.exit(2)
    except SQLAlchemyError as error:
        kind = describe(error.__cause__ or error)
        print(f"understudy: PostgreSQL refused a statement ({kind}): its own log says why", file=sys.stderr)
        sys.exit(2)
    except Exception as error:  # noqa: BLE001 a traceback's last line may quote somebody's data
        print(f"understudy: this is a bug: {describe(error)}, by {', '.join(frames(error))}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
