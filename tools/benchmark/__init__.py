"""What `tools/bench.py` measures, and how it shows it."""
