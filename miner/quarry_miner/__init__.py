"""From feedback and judgments to training examples: click models, hard negatives, reports."""

from quarry.environment import forbid_hub

forbid_hub()
