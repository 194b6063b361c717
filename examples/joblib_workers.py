"""joblib with loky: workers that are reused between calls read each new version."""

import numpy as np
from joblib import Parallel, delayed

from shmsync import Reader, Writer

features = Reader("features")


def total(features: Reader[np.ndarray], row: int) -> float:
    return float(features.get()[row].sum())


if __name__ == "__main__":
    with Writer("features") as writer, Parallel(n_jobs=2) as parallel:
        for value in (1.0, 2.0):
            writer.write(np.full((1000, 1000), value))
            print(parallel(delayed(total)(features, row) for row in range(3)))
        writer.unlink()
