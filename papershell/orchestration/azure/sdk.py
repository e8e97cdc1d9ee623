"""Calls of azureml-core: each failure becomes one sentence, and waiting polls at growing intervals."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from papershell.orchestration.errors import OrchestrationError

_POLL_S = (0.1, 3.0)
_POLL_GROWTH = 1.25
_SENTENCE_CHARACTERS = 600


@contextmanager
def asking(action: str) -> Iterator[None]:
    """Turn any exception of the block into one `OrchestrationError`: could not ``action``, and why.

    The SDK's errors have no common base class, and if a service's answer is malformed the SDK fails on it
    with its own KeyError or TypeError; therefore the block catches every exception and keeps it as the cause.
    """
    try:
        yield
    except OrchestrationError:
        raise
    except Exception as error:
        raise OrchestrationError(f"could not {action}: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """Return why a call of the SDK failed, in one line: the service's own words if it sent any."""
    text = _service_message(error) or getattr(error, "message", None) or str(error)
    text = " ".join(str(text).split()) or type(error).__name__
    if isinstance(error, (KeyError, TypeError, AttributeError, json.JSONDecodeError)):
        text = f"the service's answer makes no sense ({type(error).__name__}: {text})"
    return text[:_SENTENCE_CHARACTERS]


def _service_message(error: BaseException) -> str | None:
    """Return ``error.message`` of the JSON that the service sent with a refusal."""
    seen: BaseException | None = error
    while seen is not None:
        response = getattr(seen, "response", None)
        try:
            return str(json.loads(response.text)["error"]["message"])  # type: ignore[union-attr]
        except (AttributeError, TypeError, KeyError, ValueError):
            # Some errors carry the service's answer in their text only.
            if embedded := re.search(r'"message":\s*("(?:[^"\\]|\\.)+")', str(seen)):
                return str(json.loads(embedded[1], strict=False))
        seen = getattr(seen, "inner_exception", None) or seen.__cause__
    return None


def watch(
    thing: str,
    ask: Callable[[], str],
    ends: Collection[str],
    timeout_s: float,
    show: Callable[[str], None] | None = None,
) -> str:
    """Ask for the state of ``thing`` at growing intervals until it is one of ``ends``; return that one.

    ``show`` receives each state once.

    Raises
    ------
    OrchestrationError
        The time is over.
    """
    deadline, pause_s, shown = time.monotonic() + timeout_s, _POLL_S[0], None
    while (state := ask()) not in ends:
        if show and state != shown:
            show(state)
        shown = state
        if time.monotonic() > deadline:
            raise OrchestrationError(f"{thing} is still {state} after {timeout_s:g} seconds")
        time.sleep(pause_s)
        pause_s = min(_POLL_S[1], _POLL_GROWTH * pause_s)
    if show:
        show(state)
    return state


def sdk_version() -> str:
    """Return the version of azureml-core."""
    import azureml.core

    return str(azureml.core.VERSION)
