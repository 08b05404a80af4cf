#!/usr/bin/env python3
"""Find the indexed pictures that look most like a picture.

python scripts/run_similarity_search.py -q IMAGE [-k N] [--visualize]
"""

import sys
from pathlib import Path

# A checkout runs without being installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from imagesearch.frontends.scripts import run_similarity_search

if __name__ == "__main__":
    sys.exit(run_similarity_search())
