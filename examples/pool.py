"""multiprocessing.Pool: each worker opens the model once and reads the newest version for each task."""

import multiprocessing
import sys

from shmsync import Reader, Writer

model: Reader[dict[str, float]]


def open_model() -> None:
    global model
    model = Reader("model")


def predict(x: float) -> float:
    return model.get()["weight"] * x


if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1] if len(sys.argv) > 1 else None)  # fork, spawn, forkserver
    with Writer("model") as writer:
        writer.write({"weight": 2.0})
        with context.Pool(4, initializer=open_model) as pool:
            print(pool.map(predict, range(3)))
            writer.write({"weight": 3.0})
            print(pool.map(predict, range(3)))
        writer.unlink()
