"""``python -m mtdnn``, for ``torchrun -m mtdnn``."""

from mtdnn.cli.main import main

if __name__ == "__main__":
    main()
