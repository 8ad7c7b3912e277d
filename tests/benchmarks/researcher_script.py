"""The script that a researcher writes: OpenCV, PIL, one process, all threads, float32. Prints frames/s and features.

python researcher_script.py MODEL_DIRECTORY OUT.npy BATCH_SIZE FRAMES FILM...
"""

import sys
import time

import cv2
import numpy as np
import open_clip
import torch
from PIL import Image

directory, out, batch_size, limit, *films = sys.argv[1:]
torch.set_num_threads(int(__import__("os").cpu_count() or 1))
model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{directory}")
model.eval()


def frames():
    for film in films:
        video = cv2.VideoCapture(film)
        while True:
            there, bgr = video.read()
            if not there:
                break
            yield preprocess(Image.fromarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)))


features, batch, count, started = [], [], 0, None
with torch.inference_mode():
    for image in frames():
        batch.append(image)
        if len(batch) == int(batch_size):
            features.append(model.encode_image(torch.stack(batch)).numpy())
            batch = []
            if started is None:  # the first batch is start-up
                started = time.perf_counter()
            else:
                count += int(batch_size)
            if len(features) * int(batch_size) >= int(limit):
                break
print(count / (time.perf_counter() - started))
np.save(out, np.concatenate(features))
