"""fusionlens explain, trust."""

from __future__ import annotations
