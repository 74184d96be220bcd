"""The control plane: metrics and the admin endpoint.

In reading order:

- `source`: what this package wants to know of the running gateway;
- `metrics`: the shared counters as Prometheus families;
- `processes`: processor time, memory and files of every process;
- `admin`: the routes of the admin endpoint and who may use them;
- `server`: serves them on a loop that belongs to somebody else.
"""
