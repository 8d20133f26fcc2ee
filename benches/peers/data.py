"""The four IDX files of MNIST, plain or gzipped, as arrays: images from 0 to 1, labels from 0 to 9."""

import gzip
from pathlib import Path

import numpy as np


def idx(folder, name):
    plain = Path(folder, name)
    raw = plain.read_bytes() if plain.exists() else gzip.open(f"{plain}.gz").read()
    shape = [int.from_bytes(raw[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(raw[3])]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)


def mnist(folder):
    """Train images, train labels, test images, test labels."""
    parts = []
    for split in ["train", "t10k"]:
        parts.append(idx(folder, f"{split}-images-idx3-ubyte").astype("float32") / 255)
        parts.append(idx(folder, f"{split}-labels-idx1-ubyte").astype("int64"))
    return parts


def report(epoch, seconds, samples, accuracy):
    """The line that `cargo xtask bench train` reads."""
    print("epoch", epoch, f"{seconds:.3f}", f"{samples / seconds:.0f}", f"{accuracy:.4f}", flush=True)
