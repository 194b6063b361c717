"""What users hold: Writer, Reader, Snapshot, Reservation, Synchronizer."""
