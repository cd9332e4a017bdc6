"""All targets by name."""

from __future__ import annotations

from .archives import ARCHIVES
from .models import MODELS
from .settings import WRITTEN_BY_HAND
from .sounds import SOUNDS
from .tables import TABLES

TARGETS = {target.name: target for target in [*SOUNDS, *WRITTEN_BY_HAND, *MODELS, *TABLES, *ARCHIVES]}
