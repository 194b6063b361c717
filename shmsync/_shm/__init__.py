"""Everything that touches the operating system: segments, atomic words, futexes, locks, forks."""
