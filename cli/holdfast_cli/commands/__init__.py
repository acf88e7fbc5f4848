"""The subcommands of `holdfast`, one module each; `command` is the click command."""
