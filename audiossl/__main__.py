"""`python -m audiossl`, and `accelerate launch -m audiossl` for several processes."""

import sys

from audiossl.cli import main

sys.exit(main())
