#!/usr/bin/env bash
# Pillow 13.0.0: a photograph kept as uncompressed TIFF that its camera notes as turned by 90 degrees (orientation 5
# to 8) is read rightly from an open file, and sheared from a path.
#
# Pillow turns a TIFF upright while it decodes. Of an uncompressed grey, 16-bit or RGBA file that it was given the path
# of, it maps the pixels into memory instead of decoding them, with width and height exchanged on the way: rows are cut at
# the wrong places, and the size is that of the picture that was not turned. Nothing is raised, so that a folder of such
# photographs gives other numbers to a network by `Image.open(path)` than by `Image.open(file)`. RGB files and compressed
# ones are not mapped, and agree; so do those that are turned by 180 degrees.
#
# Seen, of a picture of 3 x 5 pixels:
#   L: orientation 6 by path (3, 5), by file (5, 3), which is right
#   RGB: orientation 6 by path (5, 3, 3), by file (5, 3, 3), which is right
# What it means for users of this library: the recipes read photographs from open files
# (recipes/shared/data/photograph_files.py); data sets that open paths should, too.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "pillow==13.0.0" "numpy<3"
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import PIL
from PIL import Image

print("pillow", PIL.__version__)
quarter_turns = {3: 2, 6: -1, 8: 1}  # quarter turns to the left that the notes ask for
for mode, pixels in (("L", (3, 5)), ("RGB", (3, 5, 3))):
    picture = np.arange(np.prod(pixels), dtype=np.uint8).reshape(pixels)
    for orientation, turns in quarter_turns.items():
        notes = Image.Exif()
        notes[274] = orientation
        Image.fromarray(picture).save("photograph.tif", exif=notes)
        upright = np.rot90(picture, turns)
        by_path = np.asarray(Image.open("photograph.tif"))
        with open("photograph.tif", "rb") as file:
            by_file = np.asarray(Image.open(file))
        print(f"{mode}: orientation {orientation} by path {by_path.shape}, by file {by_file.shape}")
        assert np.array_equal(by_file, upright), "a file is no longer read rightly"
        is_right = np.array_equal(by_path, upright)
        assert is_right == (mode == "RGB" or orientation == 3), "a path is read otherwise than it was"
PYTHON
