"""From feedback and judgments to training examples: click models, hard negatives, reports."""
