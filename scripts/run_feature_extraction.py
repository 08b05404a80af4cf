#!/usr/bin/env python3
"""Extract the feature vectors of all pictures in a folder.

python scripts/run_feature_extraction.py -i DIR -o PREFIX
"""

import sys
from pathlib import Path

# A checkout runs without being installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from imagesearch.frontends.scripts import run_feature_extraction

if __name__ == "__main__":
    sys.exit(run_feature_extraction())
