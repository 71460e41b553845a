"""Whether a model is better than what serves: by judgments, by clicks, and how sure that is."""
