"""From a task to rows: candidates, blocks of them, and what an earlier set spares."""
