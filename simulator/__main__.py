"""`python -m simulator`: one tenant, until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import uvicorn

from simulator.rate_limits import PLANS
from simulator.server import Ports, serve
from simulator.tenant import Tenant


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="simulator", description="A stateful Auth0 tenant on 127.0.0.1, for development and tests."
    )
    parser.add_argument(
        "--domain-port", type=int, default=0, help="port of the tenant's domain (TLS); 0 takes a free one"
    )
    parser.add_argument(
        "--control-port", type=int, default=0, help="port of the control plane (plain HTTP); 0 takes a free one"
    )
    parser.add_argument(
        "--browser-port", type=int, default=0, help="port of the login pages (plain HTTP); 0 takes a free one"
    )
    parser.add_argument("--data", type=Path, help="where ca.pem is written; a temporary directory by default")
    parser.add_argument("--seed", type=int, default=1, help="the same seed makes the same people")
    parser.add_argument(
        "--plan", choices=sorted(PLANS), default="enterprise", help="whose rate limits apply (default: %(default)s)"
    )
    parser.add_argument(
        "--index-lag", type=float, default=0.5, help="seconds that user search is behind (default: %(default)s)"
    )
    parser.add_argument(
        "--log-skew", type=float, default=5.0, help="log dates are off by up to so many seconds (default: %(default)s)"
    )
    parser.add_argument(
        "--log-retention", type=int, default=100_000, help="log records kept for pulling (default: %(default)s)"
    )
    parser.add_argument("--tenant", default="simulated", help="the tenant's name in its logs (default: %(default)s)")
    parser.add_argument("--log-level", default="warning", choices=["critical", "error", "warning", "info", "debug"])
    parser.add_argument("--exit-with-parent", action="store_true", help="stop when standard input closes")
    return parser.parse_args(argv)


def _announce(ready: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()


def main(argv: list[str] | None = None) -> int:
    """Serve a tenant; one JSON line on standard output says where, once it is ready."""
    asked = _arguments(argv)
    sys.setrecursionlimit(10_000)  # Auth0 bounds the size of metadata, not how deeply they are nested
    logging.basicConfig(level=asked.log_level.upper(), stream=sys.stderr)
    tenant = Tenant(
        asked.tenant, seed=asked.seed, plan=asked.plan, index_lag=asked.index_lag, log_skew=asked.log_skew, log_retention=asked.log_retention
    )  # fmt: skip
    gc.freeze()
    with ExitStack() as stack:
        data = asked.data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="simulator-")))
        data.mkdir(parents=True, exist_ok=True)
        ports = Ports(asked.domain_port, asked.control_port, asked.browser_port)
        served = serve(
            tenant, data, ports, _announce, log_level=asked.log_level, exit_with_parent=asked.exit_with_parent
        )
        with asyncio.Runner(loop_factory=uvicorn.Config(app="").get_loop_factory()) as runner:
            runner.run(served)
    return 0


if __name__ == "__main__":
    sys.exit(main())
