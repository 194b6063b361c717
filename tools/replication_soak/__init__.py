"""A soak of replication: real processes and a real server that are killed, stopped and restarted without their data."""
