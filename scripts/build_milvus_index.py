#!/usr/bin/env python3
"""Insert extracted features into a Milvus collection and build its index.

python scripts/build_milvus_index.py -f PREFIX_features.npy -p PREFIX_paths.txt
"""

import sys
from pathlib import Path

# A checkout runs without being installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from imagesearch.frontends.scripts import build_milvus_index

if __name__ == "__main__":
    sys.exit(build_milvus_index())
