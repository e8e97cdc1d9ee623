"""The IDX format: header and errors, inflate, decode, write."""
