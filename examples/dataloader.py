"""PyTorch: DataLoader workers read rows in place; the data is in memory once for any number of workers."""

import numpy as np
import torch
from torch.utils.data import DataLoader

from shmsync import Reader, Writer


class Rows:
    def __init__(self) -> None:
        self.features = Reader("features")

    def __len__(self) -> int:
        return len(self.features.get())

    def __getitem__(self, row: int) -> torch.Tensor:
        return torch.tensor(self.features.get()[row])  # copies the row, because tensors cannot be read-only


if __name__ == "__main__":
    with Writer("features") as writer:
        writer.write(np.ones((100, 10), "f4"))
        for start_method in ("fork", "spawn", "forkserver"):
            loader = DataLoader(Rows(), batch_size=10, num_workers=2, multiprocessing_context=start_method)
            print(sum(float(batch.sum()) for batch in loader))
        writer.unlink()
