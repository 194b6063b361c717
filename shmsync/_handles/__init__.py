"""The public classes: Writer, Reader, Snapshot, Reservation, Synchronizer."""
