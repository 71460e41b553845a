"""The evaluation of a model against what serves: by judgments, by clicks, and how sure that is."""
