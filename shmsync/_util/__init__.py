"""Small helpers that know nothing of shared memory."""
