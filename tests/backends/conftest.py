from __future__ import annotations

from hypothesis import settings

# A deadline measures how busy the machine is.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
