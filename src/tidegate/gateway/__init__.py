"""The gateway: an MQTT client cannot tell it from the broker behind it.

In reading order:

- `states`: the table of states and events that a connection follows;
- `handshake`: what CONNECT and CONNACK become on their way through;
- `aliases`: topic aliases, which end here;
- `connection`: one client and its upstream, sans I/O: bytes and the time in; bytes and commands out;
- `relay`: the driver of a connection: two transports, backpressure, one timer;
- `dial`, `probe`, `health`: reaching the broker, and whether it answers;
- `worker`: a process with one event loop and all connections that its sockets accept;
- `listeners`, `state`, `mosquitto`: listening sockets, the state directory, the embedded broker;
- `supervisor`: the process that owns the sockets and keeps the workers alive.

`aliases`, `connection` and `relay` are compiled: they are the path of a packet.
"""
