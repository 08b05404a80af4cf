"""What it takes to ask for words from a cold shell, beside the bare imports and the text tower alone.

    python benchmarks/text.py [--checkpoint NAME] [--rows 10000]

Each side is a process of its own; they take turns, and the best turn of each counts. Without ``--checkpoint`` the
network is one of the size of CLIP ViT-B/32 with random weights, which is as fast as a trained one.

bare             imports of what others provide; plain Transformers with tokenizer and text tower, one text
text             the same query to the collection's hits: settings, collection, text tower, search; ratio to "bare"
word             a word of the bundled model's labels, in the same way, without PyTorch
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from measuring import run_script
from refresh import fill_of
from startup import seconds

MAKE = """
import sys
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, PreTrainedTokenizerFast

folder, layers = sys.argv[1], int(sys.argv[2])
shape = {"num_hidden_layers": layers}
CLIPModel(CLIPConfig(text_config=dict(shape), vision_config=dict(shape))).save_pretrained(folder)
CLIPImageProcessor().save_pretrained(folder)
words = "<pad> <unk> a photo of the bad origami large in video game art small itap dog red car . <bos>".split()
numbers = {word: number for number, word in enumerate(words)} | {"<eos>": 49407}
tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="<unk>"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
special = [(token, numbers[token]) for token in ("<bos>", "<eos>")]
tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A <eos>", special_tokens=special)
PreTrainedTokenizerFast(
    tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", bos_token="<bos>", eos_token="<eos>",
    model_max_length=77,
).save_pretrained(folder)
"""

BARE = """
import sys
import numpy, pydantic, yaml, faiss, pyarrow.parquet, torch
from transformers import AutoTokenizer, CLIPTextModelWithProjection

folder = sys.argv[1]
model = CLIPTextModelWithProjection.from_pretrained(folder, dtype=torch.float32).eval()
with torch.inference_mode():
    model(**AutoTokenizer.from_pretrained(folder)(["a red car"], return_tensors="pt"))
"""

# Vectors of random pictures, under the fingerprint of the checkpoint, without running its image tower.
FILL = """
import sys
import numpy as np
from imagesearch import Fingerprint, ImageRecord, ImageSearch
from imagesearch.models.hub import find_checkpoint

folder, uri, rows = sys.argv[1], sys.argv[2], int(sys.argv[3])
checkpoint = find_checkpoint(folder)
fingerprint = Fingerprint(checkpoint.name, checkpoint.revision, "projection", (224, 224), 512)
with ImageSearch({"milvus": {"uri": uri}, "model": {"name": folder}}) as images:
    collection = images._handle.open().create(images.spec, fingerprint)
    vectors = np.random.default_rng(0).normal(size=(rows, 512)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    collection.upsert([ImageRecord(f"/pictures/{number}.jpg") for number in range(rows)], vectors)
    collection.build_index()
"""

ASK = """
import sys
from imagesearch import ImageSearch
from imagesearch.networks import Networks
from imagesearch.search.alternatives import best_of

model, uri, text = sys.argv[1:]
with ImageSearch({"milvus": {"uri": uri}, "model": {"name": model}}) as images:
    collection, networks = images.collection(), Networks(images.config)
    (query,) = networks.words([text], networks.fingerprint(collection.fingerprint))
    assert len(best_of(collection.search(query.vectors, 10), collection.spec.metric, 10)) == 10
"""


def measure(folder: str, rows: int, turns: int, place: Path) -> dict[str, Any]:
    """Seconds of all sides, and the ratio of the text query to what it cannot do without."""
    texts, words = str(place / "texts.db"), str(place / "words.db")
    run_script(FILL, folder, texts, str(rows))
    fill_of(None, place / "pictures", words, rows)
    run = [sys.executable, "-c"]
    commands = {
        "bare": [*run, BARE, folder],
        "text": [*run, ASK, folder, texts, "a red car"],
        "word": [*run, ASK, "starter", words, "school bus"],
    }
    best = dict.fromkeys(commands, float("inf"))
    for turn in range(turns + 1):
        for name, command in commands.items():
            taken = seconds(command)[0]
            if turn or not turns:  # the first one compiles modules
                best[name] = min(best[name], taken)
    return {"rows": rows, "seconds": best, "ratio": best["text"] / best["bare"]}


def main() -> None:
    """Parse the flags and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", help="folder of a CLIP checkpoint with 512 numbers a vector")
    parser.add_argument("--layers", type=int, default=12, help="of the network that is made, if none is named")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--turns", type=int, default=5, help="0: only the one that does not count otherwise")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(os.path.realpath(temporary))
        folder = options.checkpoint or str(place / "clip")
        if not options.checkpoint:
            run_script(MAKE, folder, str(options.layers))
        figures = measure(folder, options.rows, options.turns, place)
    for name, value in figures["seconds"].items():
        print(f"  {name:<6} {value:6.2f} s")
    print(f"  text is {figures['ratio']:.2f} times the bare imports and text tower")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
