"""Read a checkpoint from its format page alone (docs/checkpoints.md): json, hashlib and safetensors, no mtdnn."""

import hashlib
import json
import sys
from pathlib import Path

from safetensors.numpy import load_file


def read(folder):
    """(state, tensors by part) of a ``step-<n>`` folder, every file checked."""
    manifest = json.loads((folder / "manifest.json").read_text())
    if manifest["format"] != 1:
        raise ValueError(f"format {manifest['format']}")
    for name, expected in manifest["files"].items():
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != expected:
            raise ValueError(f"{name} is damaged")
    parts = {Path(name).stem: load_file(folder / name) for name in manifest["files"] if name.endswith(".safetensors")}
    return json.loads((folder / "state.json").read_text()), parts


if __name__ == "__main__":
    state, parts = read(Path(sys.argv[1]))
    print(f"step {state['step']}, epoch {state['progress']['epoch']}, rate {state['groups'][0]['lr']:.2g}")
    for part, tensors in parts.items():
        print(f"{part}: {len(tensors)} tensors, {sum(each.size for each in tensors.values())} numbers")
