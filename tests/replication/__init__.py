"""Replication through a real server: the servers, the network, the processes, and the tests of failures."""
