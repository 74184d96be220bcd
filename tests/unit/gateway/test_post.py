import os
from collections.abc import Iterator

import pytest

from tidegate.gateway.post import ANSWER, ASK, Note, Post, create_post

QUESTION = Note(ASK, 1, b"ticket 8", 2**63, b"k" * 16, b"i" * 32)
REPLY = Note(ANSWER, 0, b"ticket 8", 0, bytes(16), bytes(32))


@pytest.fixture
def posts() -> Iterator[list[Post]]:
    pipes = create_post(2)
    yield [Post(mine, [end for _, end in pipes]) for mine, _ in pipes]
    for ends in pipes:
        for fd in ends:
            os.close(fd)


def test_notes_arrive_as_they_were_sent(posts: list[Post]) -> None:
    assert posts[1].send(0, QUESTION)
    assert posts[1].send(0, REPLY)
    assert posts[0].receive() == [QUESTION, REPLY]
    assert posts[0].receive() == []
    assert posts[1].receive() == []


def test_an_answer_needs_no_more_than_the_ticket(posts: list[Post]) -> None:
    assert posts[0].send(1, Note(ANSWER, 0, b"ticket 8"))
    assert posts[1].receive() == [REPLY]


def test_a_full_pipe_takes_no_more_and_loses_nothing(posts: list[Post]) -> None:
    sent = 0
    while posts[1].send(0, QUESTION._replace(since=sent)):
        sent += 1
    assert sent >= 500
    seen: list[Note] = []
    while notes := posts[0].receive():
        seen += notes
    assert [note.since for note in seen] == list(range(sent))
    assert posts[1].send(0, QUESTION)
