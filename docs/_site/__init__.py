"""What the documentation site needs besides the pages themselves (see `docs/conf.py`)."""
