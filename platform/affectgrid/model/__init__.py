"""The fusion model, in pure torch: `fusion.FusionModel`, shaped by `config.FusionConfig`; the rest are its parts."""
