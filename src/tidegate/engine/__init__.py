"""What every process shares: words in memory, without clock or I/O of its own.

- `counters`: one row of 64-bit words per worker, written by that worker alone, read by anybody.
"""
