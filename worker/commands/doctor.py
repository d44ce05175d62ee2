"""`understudy doctor`: one line for each thing that must be right, saying that it is, or what to do."""

import typer
from rich.console import Console
from rich.markup import escape

from worker.commands.checks import examine

_MARKS = {"fine": "[green]fine [/]", "note": "[yellow]note [/]", "wrong": "[bold red]wrong[/]"}


def doctor() -> None:
    """Check settings, database, Redis, the tenant and our own processes; exit 1 when something is wrong.

    Asks Auth0 for a token of its own: plans count them by the month.
    """
    console = Console(highlight=False, soft_wrap=True)
    healthy = True
    for finding in examine():
        console.print(f"{_MARKS[finding.verdict]}  {finding.check:<17}  {escape(finding.says)}")
        healthy = healthy and finding.verdict != "wrong"
    raise typer.Exit(0 if healthy else 1)
