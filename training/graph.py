"""Write the graph for OpenVINO that lies beside the bundled model: see ``imagesearch.models.runtimes.bundled``.

python -m training.graph run/model
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from imagesearch.models.classifier import Classifier
from imagesearch.models.digests import file_digest
from imagesearch.models.embedder import Embedder
from imagesearch.models.hub import find_checkpoint
from imagesearch.models.network import Network, Task
from imagesearch.models.runtimes import openvino
from imagesearch.models.runtimes.export import load_graph, trial_pictures

# How far a number may be off PyTorch's, as a share of the largest: weights in float16 are the only difference. (A
# barely trained network gives vectors of nothing but zeros, which have no cosine.)
_TOLERANCE = 0.02


class Both(torch.nn.Module):
    """From preprocessed pixels to vectors and logits."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.model = network.model
        self._normalise = network.normalise

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors, shape (n, dim), and logits, shape (n, classes)."""
        pooled = self.model.resnet(self._normalise(pixels)).pooler_output
        return pooled.flatten(1), self.model.classifier(pooled)


def write_graph(checkpoint: Path) -> Path:
    """Write the graph into a checkpoint's folder, and compare it with PyTorch.

    Returns:
        The graph's folder.

    Raises:
        RuntimeError: its results differ.
    """
    found = find_checkpoint(str(checkpoint))
    labelling = Network.load(found, "labels", device="cpu", precision="float32")
    embedder = Embedder.of_network(Network.load(found, "features", device="cpu", precision="float32"))
    classifier = Classifier.of_network(labelling)
    folder = checkpoint / "graph"
    folder.mkdir(exist_ok=True)
    example = torch.from_numpy(np.stack([labelling.blank] * 2))
    count = torch.export.Dim("pictures", min=1, max=2**16)
    with torch.no_grad():
        program = torch.export.export(Both(labelling), (example,), dynamic_shapes=({0: count},), strict=False)
    openvino.convert(program, folder, outputs=("features", "labels"), half=True)
    pictures = trial_pictures(labelling.preprocessor, 64)
    models: dict[Task, Embedder | Classifier] = {"features": embedder, "labels": classifier}
    for task, model in models.items():
        outputs = load_graph("openvino", folder, "float32", task).run(pictures)
        expected = model.runtime.run(pictures)
        off = float(np.abs(outputs - expected).max())
        if not off <= _TOLERANCE * max(1.0, float(np.abs(expected).max())):
            raise RuntimeError(f"{task}: its results are off by {off:.3f}")
    about = {
        "weights": file_digest(checkpoint / "model.safetensors"),
        "features": json.loads(embedder.fingerprint.to_json()),
        "labels": list(classifier.labels),
    }
    (folder / "about.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="the folder of the bundled model")
    print(write_graph(parser.parse_args().checkpoint))
