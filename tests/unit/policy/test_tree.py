"""The tree of topic filters: what it holds, and that walking it finds what the filters match."""

from itertools import pairwise
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import FILTERS, TOPICS
from strategies import filters, topics, untimed
from tidegate.engine.format import NONE, Sections
from tidegate.mqtt.topics import matches, share_of
from tidegate.policy.tree import Tree


def written(*topic_filters: str) -> tuple[Sections, int]:
    tree = Tree(8)
    for number, topic_filter in enumerate(topic_filters):
        tree.add(topic_filter, number)
    out = Sections()
    return out, tree.write(out)


def rows(out: Sections, name: str) -> list[tuple[int, ...]]:
    """The records of a section whose fields are numbers."""
    return cast("list[tuple[int, ...]]", out.records[name])


def found(out: Sections, root: int, topic: str) -> list[int]:
    """The numbers of the filters that match, by the written nodes and edges alone."""
    edges = {(parent, bytes(out.text[at : at + size])): child for parent, child, at, size in rows(out, "edge")}
    levels = topic.split("/")

    def walk(node: int, depth: int) -> list[int]:
        plus, here, count_here, below, count_below = rows(out, "node")[node]
        hidden = depth == 0 and topic.startswith("$")
        numbers = [] if hidden else out.numbers[below : below + count_below]
        if depth == len(levels):
            return numbers + out.numbers[here : here + count_here]
        if plus != NONE and not hidden:
            numbers = numbers + walk(plus, depth + 1)
        child = edges.get((node, levels[depth].encode()))
        return numbers if child is None else numbers + walk(child, depth + 1)

    return sorted(walk(root, 0))


def test_a_tree_is_empty_until_something_is_added() -> None:
    tree = Tree(8)
    assert tree.empty
    tree.add("#", 1)
    assert not tree.empty
    other = Tree(8)
    other.add("a", 1)
    assert not other.empty


def test_filters_with_the_same_beginning_share_nodes() -> None:
    out, root = written("a/b/c", "a/b/d", "a/+/#", "a/+")
    assert root == 0
    assert len(out.records["node"]) == 6  # root, a, b, c, d, +
    assert len(out.records["edge"]) == 4  # the + is its parent's own


def test_the_same_filter_twice_is_two_numbers_at_one_place() -> None:
    out, root = written("a/b", "a/b", "a/#", "a/#")
    assert found(out, root, "a/b") == [0, 1, 2, 3]


def test_edges_come_by_their_children_and_children_behind_their_parents() -> None:
    out, _ = written("b/a", "a/b/c", "+/x", "b/c", "a")
    edges = rows(out, "edge")
    assert all(child < following for (_, child, *_), (_, following, *_) in pairwise(edges))
    assert all(parent < child for parent, child, *_ in edges)
    assert all(plus == NONE or plus > number for number, (plus, *_) in enumerate(rows(out, "node")))


def test_a_second_tree_stands_behind_the_first() -> None:
    out, first = written("a/b")
    tree = Tree(8)
    tree.add("a/+", 7)
    second = tree.write(out)
    assert (first, second) == (0, 3)
    assert found(out, first, "a/b") == [0]
    assert found(out, second, "a/b") == [7]


def test_a_filter_has_at_most_so_many_levels() -> None:
    tree = Tree(3)
    tree.add("a/b/c", 0)
    tree.add("a/b/#", 0)
    with pytest.raises(ValueError, match="more than 3 levels"):
        tree.add("a/b/c/#", 0)
    with pytest.raises(ValueError, match="more than 3 levels"):
        tree.add("///", 0)


@untimed
@given(st.lists(st.sampled_from(FILTERS) | filters(), min_size=1, max_size=8), st.sampled_from(TOPICS) | topics)
def test_what_is_found_is_what_matches(some_filters: list[str], topic: str) -> None:
    plain = [share_of(topic_filter)[1] for topic_filter in some_filters]
    out, root = written(*plain)
    assert found(out, root, topic) == [number for number, one in enumerate(plain) if matches(one, topic)]
