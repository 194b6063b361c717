"""Everything that touches the operating system: segments, atomic words, futexes, locks, forks.

Only Linux is supported. A port to macOS or another system replaces `ofd_locks` and `futex`, and parts of `segment`.
"""
