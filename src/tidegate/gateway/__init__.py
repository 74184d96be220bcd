"""The gateway: an MQTT client cannot tell it from the broker behind it.

In reading order:

- `states`: the table of states and events that a connection follows;
- `handshake`: what CONNECT and CONNACK become on their way through;
- `aliases`: topic aliases, which end here;
- `guard`, `notices`: what limits do to one client's messages, and what it is told;
- `connection`: one client and its upstream, sans I/O: bytes and the time in; bytes and commands out. Its text lists the
  parts that it is made of: `conversation`, `opening`, `exchange`, `delaying`, `timing`;
- `ordinals`, `scratch`: the numbers that these compare, and the packets that they are reading;
- `relay`: the driver of a connection: two transports, backpressure, one timer;
- `dial`, `probe`, `health`: reaching the broker, and whether it answers;
- `worker`: a process with one event loop and all connections that its sockets accept;
- `offences`, `ban_book`, `ban_file`, `ban_sheet`, `bans`, `ban_keeper`: who offended, who is banned, on disk, for the
  workers, as a worker looks it up, and what keeps these together;
- `last_will`, `kept`, `wills`, `presence`, `post`: a client's will, the upstream that is kept for its sake, all of a
  worker's, in which worker a client may be, and what workers ask each other;
- `policy_host`: the policy in shared memory, its generations, and what was counted;
- `listeners`, `state`, `mosquitto`: listening sockets, the state directory, the embedded broker;
- `supervisor`: the process that owns the sockets and keeps the workers alive.

`aliases`, `guard`, `connection` with its parts, and `relay` are compiled: they are the path of a packet.
"""
