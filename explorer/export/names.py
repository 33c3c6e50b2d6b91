"""How files of an export are recognized: names, metadata keys and first bytes. Known without torch."""

WEIGHTS, PACKED = "model.safetensors", "model.packed"
SPEC_KEY, REASON_KEY = "explorer.spec", "explorer.no_spec"
MAGIC = b"explpack"  # a packed file's first bytes
