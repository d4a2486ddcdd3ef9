"""Trained models as ONNX graphs, and sampling from these without PyTorch."""
