"""What computes a frozen network: `torch_runtime` or `openvino_runtime`; `choice` takes one, by `precision`."""
