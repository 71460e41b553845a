"""What measures: collections and runs by judgments, click models by clicks; and judgments from elsewhere."""
