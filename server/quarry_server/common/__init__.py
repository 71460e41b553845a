"""The parts that services share: errors, times, values, pages, operations and names of models."""
