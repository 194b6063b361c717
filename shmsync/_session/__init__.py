"""One name, opened by a writer or a reader: its segments, who owns it, who waits for it."""
