"""`holdfast completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command(short_help="Print the shell's completion script.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    Example: for bash, in ~/.bashrc
      source <(holdfast completion bash)
    """
    completion = get_completion_class(shell)
    if completion is None:  # click knows all three choices
        raise click.ClickException(f"no completion for {shell}")
    root = context.find_root().command
    click.echo(completion(root, {}, "holdfast", "_HOLDFAST_COMPLETE").source())
