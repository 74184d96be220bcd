"""Topic filters as a tree: a topic is matched by walking down its levels, however many filters there are."""

from ..engine.format import NONE, Sections


class Tree:
    """Filters, each with a number. Nodes are numbered in the order in which they are made: children follow parents."""

    def __init__(self, max_levels: int) -> None:
        self._max_levels = max_levels
        self._children: list[dict[str, int]] = [{}]
        self._here: list[list[int]] = [[]]
        """Numbers of the filters that end at a node."""
        self._below: list[list[int]] = [[]]
        """Numbers of those that go on with #, which matches the node itself as well (section 4.7.1.2)."""

    @property
    def empty(self) -> bool:
        """Whether nothing was added."""
        return len(self._children) == 1 and not self._below[0]

    def add(self, topic_filter: str, number: int) -> None:
        """Add a valid filter, without $share; ValueError when it has too many levels."""
        levels = topic_filter.split("/")
        if len(levels) > self._max_levels:
            raise ValueError(f"a topic filter of more than {self._max_levels} levels")
        node = 0
        for level in levels:
            if level == "#":
                self._below[node].append(number)
                return
            following = self._children[node].get(level)
            if following is None:
                following = self._children[node][level] = len(self._children)
                self._children.append({})
                self._here.append([])
                self._below.append([])
            node = following
        self._here[node].append(number)

    def write(self, out: Sections) -> int:
        """Append nodes and edges, which come by their children; the number of the root."""
        root = len(out.records["node"])
        edges: list[tuple[int, int, str]] = []
        for node, children in enumerate(self._children):
            plus = children.get("+")
            out.add(
                "node",
                NONE if plus is None else root + plus,
                *out.write_numbers(self._here[node]),
                *out.write_numbers(self._below[node]),
            )
            edges += [(root + child, root + node, level) for level, child in children.items() if level != "+"]
        for child, parent, level in sorted(edges):
            out.add("edge", parent, child, *out.write_text(level.encode()))
        return root
