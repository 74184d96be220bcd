"""Measurements of a Tidegate beside what a user would put in its place. README.md has the method.

Scripts, each run as `python -m benchmarks.NAME` in the root of the repository:

- `compare`: CPU, throughput and latency beside direct, nginx and HAProxy; ends with the design's figures.
- `memory`: user memory per idle connection.
- `big_packets`: memory while a thousand clients are half-way through a huge PUBLISH.
- `kill`: what `kill -9` loses (nothing) and doubles (no QoS 2 message), also while limits refuse messages.
- `rates`: that what arrives is burst + rate x time, whatever the action and the QoS.
- `keys`: memory, the attacker's gain and everybody else's loss under ten million keys.
- `shaping`: what `delay` and `concurrent` promise, one by one.
- `flood`: what others feel of a flood at ten times what the broker can take.
- `connections`: what limits on connections, bans and bounds promise, one by one.
- `reload`: fifty reloads under load: no disconnect, no loss, budgets go on.
- `plugin`: what the plugin for Mosquitto promises, one by one, its cost included.
- `profile_worker`: where the CPU of a worker goes.
- `engine`: nanoseconds of a decision without Python in between; ends with the design's figures.
- `hits`: `tidegate.Limiter` beside the rate limiters of PyPI.

What they stand on, in reading order: `stage` (processes of one run), `wire` (the few packets of a probe),
`targets` (the broker and all that can stand in front of it), `scenarios`, `figures`, `report`, `machine`,
`relay_floor`, `sink_broker`, `sender` and `arrivals` (a publisher and a subscriber by hand), `metrics`,
`streams`, `orphans`, `victims`, `keys_engine`, `peer`, `company` and `newcomers` (well-behaved clients), `beside`,
`flooder` and `stormer` (the others), `quota`, `claims`, `guestbook` (who came to the broker), `doors` (who decides on
that), `mqload.c`, the load, and `engine_bench.c`, the driver of `engine`.
"""
