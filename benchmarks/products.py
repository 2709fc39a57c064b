"""How fast this machine multiplies: in bf16 beside fp32, and a layer's queries, keys and values in one product.

python -m benchmarks.products
"""

import argparse
import sys
from collections.abc import Sequence

import torch

from benchmarks import measure
from benchmarks.measure import Contender, Row, timed
from benchmarks.shapes import SHAPES

TIMES = 30  # products each time
FP32, BF16, ONE, THREE = "fp32", "bf16", "one product for q, k and v", "three products for q, k and v"
PAIRS = {(BF16, FP32): None, (ONE, THREE): None}


def rows_of(shape: str, num_tokens: int, repetitions: int) -> list[Row]:
    """The rates of tokens that go through the widest layer, and through what makes q, k and v."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    width, inner = SHAPES[shape]["hidden_size"], SHAPES[shape]["intermediate_size"]

    def products(name: str, outer: int, *, count: int = 1, dtype: torch.dtype = torch.float32) -> Contender:
        tokens = torch.randn(num_tokens, width, device=device, dtype=dtype)
        weights = [torch.randn(outer, width, device=device, dtype=dtype) for _ in range(count)]

        def work() -> None:
            for _ in range(TIMES):
                for weight in weights:
                    tokens @ weight.T

        return Contender(name, timed(work), TIMES * num_tokens)

    field = [
        products(FP32, inner),
        products(BF16, inner, dtype=torch.bfloat16),
        products(ONE, 3 * width),
        products(THREE, width, count=3),
    ]
    rounds = measure.rounds_of(field, repetitions=repetitions)
    return list(measure.compared(field, rounds, PAIRS, shape=shape))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.products", description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, nargs="+", default=["minilm", "base"])
    parser.add_argument("--tokens", type=int, default=800, help="of a batch: 32 rows of 25")
    parser.add_argument("--repetitions", type=int, default=measure.REPETITIONS)
    parser.add_argument("--name", default="products", help="of the files of results")
    given = parser.parse_args(arguments)
    found = [row for shape in given.shape for row in rows_of(shape, given.tokens, given.repetitions)]
    measure.write(given.name, found, command=measure.command("products", arguments))


if __name__ == "__main__":
    main(sys.argv[1:])
