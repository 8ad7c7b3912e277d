"""Write the store that tests/unit/data/test_old_store.py reads, with the code of an older commit.

    git worktree add /tmp/older 92158de
    OMP_NUM_THREADS=1 PYTHONPATH=/tmp/older/platform python tests/unit/data/old_store/make.py /tmp/old_store
    git worktree remove /tmp/older

and copy features/ and corpus/ from there to this folder. One video of two seconds, its frames whole, tiny encoders.
"""

import shutil
import sys
from pathlib import Path

from affectgrid.data.rendered.config import RenderConfig
from affectgrid.data.streams import AudioStream, VisualStream

from affectgrid.data.catalog import read_aff_wild2
from affectgrid.distributed.cluster import connect
from affectgrid.distributed.encode import EncodeConfig, encode
from affectgrid.distributed.render import render

out = Path(sys.argv[1]).resolve()
visual = VisualStream(crop="frame", frame_rate_hz=5.0, precision="fp32")
audio = AudioStream(hop_s=0.5, precision="fp32")
with connect("local"):
    root = render(out / "rendered", RenderConfig(num_train=1, num_validation=1, num_test=0, duration_s=2))
    corpus = out / "corpus"
    for part in ("VA_Estimation_Challenge/Train_Set/rendered-001.txt", "batch2/rendered-001.mp4"):
        (corpus / part).parent.mkdir(parents=True)
        shutil.copy(root / part, corpus / part)
    print(encode(read_aff_wild2(corpus), out / "features", EncodeConfig(visual=visual, audio=audio)))
