"""`understudy services`: an embedded PostgreSQL and Redis, their data kept in the checkout, until Ctrl-C."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path

from local.children import Children
from local.processes import ending_on_signals
from local.servers import ServerError, servers_from_environment

KEPT = Path(".understudy")


def main() -> None:
    """Run until Ctrl-C or SIGTERM; print the URLs as a shell could read them."""
    try:
        with (
            suppress(KeyboardInterrupt),
            ending_on_signals(),
            Children() as children,
            servers_from_environment(os.environ, children=children, keep=KEPT) as servers,
        ):
            print(f"DATABASE_URL={servers.postgres.url}\nREDIS_URL={servers.redis.url}", flush=True)
            print("Ctrl-C stops them; PostgreSQL's data stays in .understudy/", file=sys.stderr)
            while True:
                servers.check()
                time.sleep(0.5)
    except ServerError as error:
        sys.exit(f"understudy: {error}")


if __name__ == "__main__":
    main()
