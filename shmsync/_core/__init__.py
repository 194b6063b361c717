"""The protocol and the memory layout, without I/O: what tests/model explores."""
