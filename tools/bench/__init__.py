"""The benchmark: shmsync against baselines, and against other libraries (peers)."""
