"""The subcommands of ``papershell``, one module per group; each loads what it needs when it runs."""
