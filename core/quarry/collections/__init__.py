"""Collections that are open: their generations, their indexes, and every change of what serves."""
