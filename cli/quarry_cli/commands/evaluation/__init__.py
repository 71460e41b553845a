"""Commands that measure: collections and runs by judgments, and click models by clicks."""
