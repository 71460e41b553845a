"""Makes models from mined examples, and says whether they are better."""

from quarry.environment import forbid_hub

forbid_hub()
