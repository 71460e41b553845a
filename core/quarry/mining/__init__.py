"""What server and miner agree on: what is asked of a mining job, and where its results lie."""
