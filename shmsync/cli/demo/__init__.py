"""The demo: a real table is published at a steady rate while readers and a writer are killed."""
