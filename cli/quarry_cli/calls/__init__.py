"""Calls that take more than one request: streams, operations that are followed, many searches."""
