"""Limits that processes share: C, the memory it decides in, a small library on top. Only `limiter` has a clock.

In reading order:

- `native/engine.h`: the map of the C side: buckets, segment, compiled policy, decisions, events;
- `format`: the compiled policy's records, written;
- `binding`: the C side for Python, and for the compiled packet path;
- `memory`: memory that processes share, with a name or without;
- `huge_pages`: how large memory is placed for them, and asks for them;
- `errors`: what is refused, and how to mend it;
- `rate`, `limiter`: "100/s burst 20", and `tidegate.Limiter`, limits over processes without a gateway;
- `counters`: one row of 64-bit words per worker for all that is not a limit.
"""
