"""In which workers a client may have a will that is held back: shared memory, a byte for each cell and worker.

A client's cell is a part of its key, which is a keyed hash, so nobody can aim at another's cell. Each worker writes its
own bytes only and looks at the others' once for each CONNECT; a cell that two clients share costs a question in vain.
The supervisor clears the bytes of a worker that has died. Rejected: to ask the supervisor, which would then stand in
the path of every CONNECT; and to ask all workers, of which most have nothing to say.
"""

from ..engine.memory import create_anonymous, map_memory

CELLS = 1 << 18
"""With 10,000 such clients in a worker, one CONNECT in twenty-six asks that worker in vain."""
_WORD = 4


def create_presence(workers: int) -> int:
    """A file descriptor of zeroed memory for so many workers; SegmentError when there is not so much of it."""
    return create_anonymous((_WORD + CELLS) * workers)


def clear_presence(fd: int, workers: int, row: int) -> None:
    """Forget the clients of the worker `row`, which has ended."""
    with map_memory(fd) as memory:
        memory[_WORD * workers + row :: workers] = bytes(CELLS)
        memory[_WORD * row : _WORD * (row + 1)] = bytes(_WORD)


class Presence:
    """The memory as the worker `row` of so many sees it."""

    def __init__(self, fd: int, workers: int, row: int) -> None:
        self._memory = map_memory(fd)
        self._workers = workers
        self._row = row
        self._head = _WORD * workers
        self._nobody = bytes(self._head)
        self._cells: dict[int, int] = {}
        """By cell, how many of this worker's clients are in it."""
        self._count = 0

    @property
    def is_empty(self) -> bool:
        """Whether no worker has any such client."""
        return self._memory[: self._head] == self._nobody

    def enter(self, key: bytes) -> None:
        """Say that this worker has a client with this key (at least 4 bytes), once more."""
        cell = self._cell(key)
        self._cells[cell] = self._cells.get(cell, 0) + 1
        self._memory[self._place(cell) + self._row] = 1
        self._tell(self._count + 1)

    def leave(self, key: bytes) -> None:
        """It has one less."""
        cell = self._cell(key)
        self._cells[cell] -= 1
        if not self._cells[cell]:
            del self._cells[cell]
            self._memory[self._place(cell) + self._row] = 0
        self._tell(self._count - 1)

    def others(self, key: bytes) -> list[int]:
        """The other workers that may have a client with this key."""
        place = self._place(self._cell(key))
        rows = enumerate(self._memory[place : place + self._workers])
        return [row for row, is_there in rows if is_there and row != self._row]

    def _tell(self, count: int) -> None:
        self._count = count
        self._memory[_WORD * self._row : _WORD * (self._row + 1)] = count.to_bytes(_WORD, "little")

    def _cell(self, key: bytes) -> int:
        return int.from_bytes(key[:4]) % CELLS

    def _place(self, cell: int) -> int:
        return self._head + cell * self._workers
