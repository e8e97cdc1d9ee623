"""The IDX format: header and errors, inflate, read, write."""

from papershell.kernels.idx.header import IdxError
from papershell.kernels.idx.read import map_idx, read_idx
from papershell.kernels.idx.write import write_idx

__all__ = ["IdxError", "map_idx", "read_idx", "write_idx"]
