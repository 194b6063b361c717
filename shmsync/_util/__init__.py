"""Small helpers that do not depend on shared memory."""
