"""The bounds of the service. ``docs/azure.md`` states them; a request beyond one gets a 4xx and a sentence."""

from __future__ import annotations

CONNECTIONS = 256  # at once; a connection carries one request
HEAD_S = 30.0  # until the request's line and headers have arrived
SILENCE_S = 60.0  # between two pieces of a body or of an answer
ADDRESS_CHARACTERS = 2048
BODY_BYTES = 8 << 20  # of JSON and of lists of blocks; parsing takes about twenty times as much memory
BODY_LEVELS = 200  # of objects and lists inside each other
UPLOAD_BYTES = 5000 << 20  # of a file in one request, as on Azure; blocks carry larger ones
NAME_CHARACTERS = 1024  # of a file's name with its folders, as on Azure
NAME_LEVELS = 64
NAME_PART_BYTES = 255  # of a file or a folder in it, as file systems have it
FILTER_CHARACTERS = 4096
