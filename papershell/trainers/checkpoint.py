"""Training that can go on: its state in one file, handed out again only under the same settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from papershell.kernels.files import replacing
from papershell.trainers.formats.npz import read_npz

STATE_VERSION = 1


class CheckpointError(ValueError):
    """A checkpoint cannot be continued; the message names it and says why."""


class DivergenceError(RuntimeError):
    """A loss is not finite any more; the message names the batch. The last checkpoint is good."""


@dataclass
class Checkpoint:
    """A checkpoint's file, and how far the training was when it was last saved.

    Attributes
    ----------
    path : of the file.
    unit : in which ``saved`` counts, as in ``step``.
    saved : None before the first checkpoint of this training.
    """

    path: Path
    unit: str
    saved: int | None = None

    def kept(self) -> str:
        """Return the sentence that an interrupted training ends with."""
        if self.saved is None:
            return "no checkpoint was saved yet, so the next training begins anew"
        return f"{self.path} holds {self.unit} {self.saved}; --resume goes on from there"


def write_state(path: Path, arrays: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> None:
    """Write the state of a training to the .npz file ``path``, atomically.

    Parameters
    ----------
    arrays : by name; no objects.
    settings : `read_state` hands the arrays out under the same ones only; numbers, strings, None.

    Raises
    ------
    OSError
        It cannot be written, as when the disk is full; an older ``path`` is still whole.
    """
    stored: dict[str, Any] = {**arrays, "settings": np.array(_settings_json(settings))}
    try:
        with replacing(path, parents=True) as file:
            np.savez(file, **stored)
    except OSError as error:
        raise OSError(f"{error}; the checkpoint before it is untouched") from error


def read_state(path: Path, settings: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Read the arrays that `write_state` wrote under the same ``settings``.

    Raises
    ------
    CheckpointError
        The file is damaged, or was written under other settings.
    OSError
        It cannot be opened.
    """
    with open(path, "rb") as file:
        try:
            arrays = read_npz(file)
            found = json.loads(str(arrays.pop("settings")))
            found.items()
        except Exception as error:  # zipfile and NumPy raise a dozen types on damaged files
            raise CheckpointError(
                f"{path} is not a checkpoint that papershell wrote ({error}); remove it to start over"
            ) from error
    wanted = json.loads(_settings_json(settings))
    for name in (wanted | found) if found != wanted else ():
        if found.get(name) != wanted.get(name):
            raise CheckpointError(
                f"{path} was made with {name} {found.get(name)}, not {wanted.get(name)}; "
                f"continue with the same settings, or remove it to start over"
            )
    return arrays


def _settings_json(settings: Mapping[str, Any]) -> str:
    return json.dumps({"checkpoint version": STATE_VERSION, **settings})
