"""Training runs: `config.TrainConfig`, `loop.fit`, `checkpoint`, and `inference` with the finished model.

Runs in a plain interpreter, without Ray. Nothing is imported here: a job reads the configuration before torch.
"""
