"""A feature store: one process updates rows many times a second, workers look rows up in place."""

import multiprocessing

import numpy as np

from shmsync import ArrayMap, Reader, Writer

ROWS, UPDATES, WORKERS = 100_000, 50, 4


def work(last: int) -> int:
    features = Reader("features")
    while (row := features.get()[4711])[0] < last:  # looked up in shared memory: nothing is decoded or copied
        features.wait(timeout=1)
    return int(row[0])


if __name__ == "__main__":
    with Writer("features", codec="archive") as writer, multiprocessing.Pool(WORKERS) as pool:
        writer.write(ArrayMap(np.arange(ROWS), np.zeros((ROWS, 10), np.float32)))
        results = pool.map_async(work, [UPDATES] * WORKERS)
        for number in range(1, UPDATES + 1):
            keys = np.random.default_rng(number).integers(0, ROWS, 100)
            with writer.update() as draft:
                draft.update(keys, np.full((100, 10), -number, np.float32))
                draft[4711] = np.full(10, number, np.float32)
        assert draft.result is not None
        print(results.get(), f"{draft.result.copied / draft.result.size:.1%} copied")
        writer.unlink()
