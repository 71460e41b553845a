"""The contract of server and miner: what is asked of a mining job, and where its results lie."""
