"""The project's model and objective under Lightning, fed by the usual script's DataLoader of windows.

python lightning_driver.py VIDEO_FOLDER EPOCHS

Prints as JSON the seconds of every epoch's training and the mean loss of each.
"""

import json
import sys
import time
from pathlib import Path

import lightning
import torch

from affectgrid.losses import objective
from affectgrid.training.batches import Resident
from affectgrid.training.build import build_model
from affectgrid.training.config import TrainConfig
from affectgrid.training.labels import RegionLabels
from affectgrid.training.optim import adamw, rate_factor
from benchmarks import training_script
from benchmarks.corpora import SMALL, prepared

folder, epochs = Path(sys.argv[1]), int(sys.argv[2])


class Fusion(lightning.LightningModule):
    def __init__(self, config, data):
        super().__init__()
        self.config, self.seconds, self.losses = config, [], []
        prompts = data.prompts_for(config)
        self.model = build_model(config, prompts=prompts, dims=data.train.dims)
        self.model.standardise(Resident(data.train).statistics())
        self.soft_labels = RegionLabels(config.prompt, prompts.grid, torch.device("cpu"))

    def training_step(self, parts, _):
        batch, config = training_script.as_batch(parts), self.config
        output = self.model(batch.streams, batch.frame_mask)
        loss = objective(
            output,
            batch.va,
            batch.labelled,
            self.soft_labels(batch.va, output.sigma),
            mse_weight=config.loss.mse_weight,
            prompt_weight=config.prompt.weight,
        ).total
        self.losses[-1].append(loss.detach())
        return loss

    def configure_optimizers(self):
        optimizer = adamw(self.model, self.config.optim)
        steps, optim = self.trainer.estimated_stepping_batches, self.config.optim

        def factor(step):
            return rate_factor(step, steps, warmup_share=optim.warmup_share, schedule=optim.schedule)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_epoch_start(self):
        self.losses.append([])
        self.started = time.perf_counter()

    def on_train_epoch_end(self):
        self.seconds.append(time.perf_counter() - self.started)


torch.set_num_threads(1)
config = TrainConfig()
module = Fusion(config, prepared(SMALL))
source = training_script.loader(folder, config.window.length, config.window.stride, config.optim.batch_size)
trainer = lightning.Trainer(
    max_epochs=epochs,
    accelerator="cpu",
    gradient_clip_val=config.optim.clip_norm,
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(module, source)
print(json.dumps({"seconds": module.seconds, "losses": [float(torch.stack(some).mean()) for some in module.losses]}))
