"""The main job, shown: a real table published at a steady rate while readers and writers are killed."""
