"""The error that the command shows as one sentence."""


class OrchestrationError(RuntimeError):
    """Something outside this program is wrong; the message says what, where, and what to do."""
