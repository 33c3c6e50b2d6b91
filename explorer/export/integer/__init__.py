"""ONNX files of integers: weights as their codes, activations rounded where the plan says so."""
