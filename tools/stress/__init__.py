"""A stress test of shmsync: real processes that are killed, stopped and forked, and checks of every value they read."""
