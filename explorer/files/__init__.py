"""Opening files that other people made: models, checkpoints, data. Nothing in a file is ever executed."""
