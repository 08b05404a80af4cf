#!/usr/bin/env python3
"""Tell what is in a picture.

python scripts/run_classification.py -i IMAGE [--visualize]
"""

import sys
from pathlib import Path

# A checkout runs without being installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from imagesearch.frontends.scripts import run_classification

if __name__ == "__main__":
    sys.exit(run_classification())
