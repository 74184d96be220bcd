"""The policy that gateways are measured with: a hundred limits, ten of which meet each message and none of which bites.

The ten are of ten kinds: by client, user, address, prefix, topic, its first levels, class, listener and all, by
messages and by bytes. The others are for other topics and other clients, as a real policy's are.
"""

LIMITS = 100
MEETING = (
    'per = "client"',
    'per = "client"\ntopic = "plant/#"',
    'per = "username"\ntopic = "plant/a/#"',
    'per = "ip"\ntopic = "plant/+/line/#"',
    'per = "ip/24/56"\ntopic = "plant/+/+/+/sensor/#"',
    'per = "topic"\ntopic = "plant/a/line/+/sensor/temp"',
    'per = ["client", "topic/2"]\ntopic = ["plant/a/line/#", "plant/b/line/#"]',
    'per = "class"\nclass = "everybody"',
    'per = "listener"\nexcept_topic = "plant/b/#"',
    'per = "all"\nqos = [0, 1]',
)
_AMPLE = "1000000/s burst 1000000"


def policy_text(limits: int = LIMITS, on_excess: str = "delay") -> str:
    """The tables of so many limits, at least ten; empty for 0."""
    if not limits:
        return ""
    parts = ['[class.everybody]\ncidr = ["0.0.0.0/0", "::/0"]', '[class.others]\nclient_id = "never-*"']
    for number, keys in enumerate(MEETING):
        measure = f'rate = "{_AMPLE}"' if number % 5 else f'rate = "{_AMPLE}"\nbandwidth = "1GiB/s"'
        parts.append(_limit(f"meets-{number}", keys, measure, on_excess))
    for number in range(len(MEETING), limits):
        where = f'topic = "plant/z{number}/+/#"' if number % 2 else 'class = "others"'
        parts.append(_limit(f"other-{number}", where, f'rate = "{_AMPLE}"', on_excess))
    return "\n\n".join(parts) + "\n"


def _limit(name: str, keys: str, measure: str, on_excess: str) -> str:
    return f'[[limit]]\nname = "{name}"\n{keys}\n{measure}\non_excess = "{on_excess}"'
