"""concurrent.futures.ProcessPoolExecutor: a Reader passed to a worker process attaches to the name there."""

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from shmsync import Reader, Writer


def total(features: Reader[np.ndarray], row: int) -> float:
    return float(features.get()[row].sum())


if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1] if len(sys.argv) > 1 else None)  # fork, spawn, forkserver
    features = Reader("features")
    with Writer("features") as writer, ProcessPoolExecutor(4, mp_context=context) as executor:
        writer.write(np.ones((1000, 1000)))
        print([future.result() for future in [executor.submit(total, features, row) for row in range(3)]])
        writer.write(np.full((1000, 1000), 2.0))
        print([future.result() for future in [executor.submit(total, features, row) for row in range(3)]])
        writer.unlink()
