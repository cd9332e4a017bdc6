"""Makes the folder `fuzzing`, which its child processes import as a package, importable for the tests, too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
