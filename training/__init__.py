"""The recipe that makes the bundled model: see training/README.md."""
