"""clip-video-encode on a few films, in its side environment. Prints its steady frames/s.

python peer_driver.py ARCHITECTURE WEIGHTS OUT_FOLDER FILMS FRAMES_PER_FILM FILM...

The model is loaded in each call and not counted; what one film costs more than none is its steady speed.
"""

import importlib
import sys
import tempfile
import time
from pathlib import Path

import open_clip
import torch

# not `import ... as`: the package has a function of the module's name
peer = importlib.import_module("clip_video_encode.clip_video_encode")
architecture, weights, out, per_film, *films = sys.argv[1:]
torch.set_num_threads(int(__import__("os").cpu_count() or 1))
loaded = {}
create = open_clip.create_model_and_transforms


def create_once(*args, **kwargs):
    if "model" not in loaded:
        loaded["model"] = create(*args, **kwargs)
    return loaded["model"]


peer.open_clip.create_model_and_transforms = create_once


def seconds(some):
    with tempfile.TemporaryDirectory() as folder:
        listing = Path(folder) / "films.txt"
        listing.write_text("\n".join(some) + "\n")
        Path(out).mkdir(exist_ok=True)
        started = time.perf_counter()
        peer.clip_video_encode(str(listing), out, oc_model_name=architecture, pretrained=weights, frame_workers=2)
        return time.perf_counter() - started


first = seconds(films[:1])  # loads the model
few, many = seconds(films[:1]), seconds(films)
print((len(films) - 1) * int(per_film) / (many - few))
