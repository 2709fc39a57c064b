"""The program that each process of a torchrun test executes: exchange something large, and end right after."""

import torch

from mtdnn.distributed import joined_ranks


def main() -> None:
    """What is exchanged dies with this function, while gloo's threads may still hold it."""
    with joined_ranks() as ranks:
        for _ in range(3):
            ranks.sum(torch.ones(3_000_000))
            ranks.gather([ranks.rank])


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
