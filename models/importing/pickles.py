"""What a pickle says, without doing it.

A pickle is a program: it names functions and has them called. `describe` follows that program on
paper. A function that is named becomes a `Name`, a call becomes a `Made`, a tensor becomes a
`TensorRef` into a storage; nothing is imported, nothing is called, and no object is built that the
file could choose. A file that names a way of running commands is refused altogether.
"""

from __future__ import annotations

import mmap
import pickletools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import torch

from models.refusal import RefusalError


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


Buffer = bytes | mmap.mmap
MOST_BYTES = 64 << 20
MOST_STEPS = 1_000_000
# What honest weights and settings have no use for: ways to run, import, open or unpickle.
_FORBIDDEN_MODULES = _words("""
_io _posixsubprocess _pickle asyncio bdb cProfile code codeop commands ctypes dill doctest
ftplib http idlelib importlib io joblib marshal multiprocessing nt os pdb pickle pip pkgutil
platform posix profile pty pydoc requests runpy setuptools shelve shutil signal site smtplib
socket socketserver ssl subprocess sys tempfile threading timeit torch.hub torch.jit
torch.package torch.serialization torch.utils.cpp_extension trace urllib venv webbrowser xmlrpc
zipfile zipimport
""")
_FORBIDDEN_NAMES = _words("""
__build_class__ __import__ breakpoint compile delattr eval exec execfile exit file globals help
input locals open quit setattr vars
""")
_BUILTINS = ("builtins", "__builtin__")
_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}


class CheckpointError(RefusalError):
    """A checkpoint cannot be used; the message says what, where and the remedy in one sentence."""


class Window:
    """A stretch of a file's bytes, read like a file; never more than MOST_BYTES of it."""

    def __init__(self, buffer: Buffer, start: int, end: int | None = None) -> None:
        self.buffer = buffer
        self.at = start
        self.end = min(len(buffer) if end is None else end, start + MOST_BYTES)

    def read(self, n: int) -> bytes:
        """Up to n bytes."""
        stop = min(self.at + max(n, 0), self.end)
        part = bytes(self.buffer[self.at : stop])
        self.at = stop
        return part

    def readline(self) -> bytes:
        """Up to the end of the line."""
        found = self.buffer.find(b"\n", self.at, self.end)
        return self.read((self.end if found < 0 else found + 1) - self.at)

    def tell(self) -> int:
        """The position."""
        return self.at


@dataclass(frozen=True, slots=True)
class Name:
    """A function or class that the file names."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(slots=True, eq=False)
class Record:
    """A dictionary of the file, as pairs: a key is never hashed unless it is a string."""

    pairs: list[tuple[Any, Any]] = field(default_factory=list)

    def named(self) -> dict[str, Any]:
        """The entries under a string."""
        return {key: value for key, value in self.pairs if type(key) is str}


@dataclass(slots=True, eq=False)
class Made:
    """An object the file wants made: by what, from what, and the state it is to be given."""

    by: Name | None
    arguments: tuple[Any, ...]
    state: Any = None
    pairs: list[tuple[Any, Any]] = field(default_factory=list)
    items: list[Any] = field(default_factory=list)

    def attributes(self) -> dict[str, Any]:
        """Its state by name, where it has one."""
        state = self.state
        if isinstance(state, tuple) and len(state) == 2 and isinstance(state[0], Record):
            state = state[0]
        return state.named() if isinstance(state, Record) else {}


@dataclass(frozen=True, slots=True)
class Storage:
    """A block of numbers beside the pickle. numel: numbers of `dtype` in it."""

    key: str
    dtype: torch.dtype
    numel: int


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A tensor, as a window onto a storage; offset and stride count numbers of `dtype`."""

    storage: Storage
    dtype: torch.dtype
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def describe(stream: Window, storages: dict[str, Storage] | None = None) -> Any:
    """The object a pickle describes, from the stream's position on; leaves it after the pickle.

    storages: takes every storage that is named, by its key.

    Raises CheckpointError where the file names a way of running commands or is too long, and
    ValueError, IndexError, TypeError or AttributeError where it is damaged.
    """
    return _Reader({} if storages is None else storages).follow(
        pickletools.genops(cast(Any, stream))
    )


class _Reader:
    """A pickle machine that notes instead of doing."""

    def __init__(self, storages: dict[str, Storage]) -> None:
        self.storages = storages
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def follow(self, steps: Iterator[tuple[Any, Any, int | None]]) -> Any:
        """The object left when the pickle stops."""
        for count, (opcode, argument, _) in enumerate(steps):
            if count > MOST_STEPS:
                raise CheckpointError(f"its pickle is longer than {MOST_STEPS:,} steps")
            if opcode.name == "STOP":
                return self.stack.pop()
            if opcode.name in _CONSTANTS:
                self.stack.append(_CONSTANTS[opcode.name]())
            elif opcode.name in _ARGUMENTS:
                self.stack.append(argument)
            elif opcode.name in _STEPS:
                _STEPS[opcode.name](self, argument)
            else:
                raise CheckpointError(f"its pickle uses the step {opcode.name}, which weights lack")
        raise ValueError("pickle without an end")

    def marked(self) -> list[Any]:
        """What lies above the mark."""
        items = self.stack
        self.stack = self.outer.pop()
        return items

    def group(self, made_of: Callable[[list[Any]], Any]) -> None:
        """What lies above the mark, as one object."""
        items = self.marked()
        self.stack.append(made_of(items))

    def mark(self, _: Any) -> None:
        """Begin a group."""
        self.outer.append(self.stack)
        self.stack = []

    def remember(self, place: int | None) -> None:
        """Note the top under a number."""
        self.memo[len(self.memo) if place is None else place] = self.stack[-1]

    def name(self, text: str) -> None:
        """A named function or class, its module first."""
        module, _, name = text.partition(" ")
        self.stack.append(_allowed(module, name))

    def name_from_stack(self, _: Any) -> None:
        """The same, named by two strings."""
        name, module = self.stack.pop(), self.stack.pop()
        if type(name) is not str or type(module) is not str:
            raise ValueError("a function is named by something else than text")
        self.stack.append(_allowed(module, name))

    def call(self, _: Any) -> None:
        """A function and its arguments."""
        arguments, function = self.stack.pop(), self.stack.pop()
        self.stack.append(_made(function, arguments))

    def call_with_names(self, _: Any) -> None:
        """A class, its arguments and its named arguments, which are let go."""
        self.stack.pop()
        self.call(None)

    def call_marked(self, text: str | None) -> None:
        """INST and OBJ of the oldest pickles."""
        items = self.marked()
        if text is not None:
            module, _, name = text.partition(" ")
            items.insert(0, _allowed(module, name))
        self.stack.append(_made(items[0], tuple(items[1:])))

    def build(self, _: Any) -> None:
        """State for the object on top."""
        state = self.stack.pop()
        if isinstance(self.stack[-1], Made):
            self.stack[-1].state = state

    def put(self, pairs: list[tuple[Any, Any]]) -> None:
        """Entries for the dictionary on top."""
        target = self.stack[-1]
        if not isinstance(target, Record | Made):
            raise ValueError("entries for what is no dictionary")
        target.pairs.extend(pairs)

    def put_one(self, _: Any) -> None:
        """One entry."""
        value, key = self.stack.pop(), self.stack.pop()
        self.put([(key, value)])

    def put_marked(self, _: Any) -> None:
        """All entries above the mark."""
        self.put(_in_pairs(self.marked()))

    def add(self, items: list[Any]) -> None:
        """Items for the list or set on top."""
        target = self.stack[-1]
        if isinstance(target, Made):
            target.items.extend(items)
        elif isinstance(target, list):
            target.extend(items)
        else:
            raise ValueError("items for what is no list")

    def add_marked(self, _: Any) -> None:
        """All items above the mark."""
        self.add(self.marked())

    def tuple_of(self, n: int) -> None:
        """The top n as a tuple."""
        if len(self.stack) < n:
            raise ValueError("too little on the stack")
        self.stack[-n:] = [tuple(self.stack[-n:])]

    def stored(self, identity: Any) -> None:
        """A storage, the one thing that may lie beside a pickle."""
        found = _storage(identity)
        if isinstance(found, Storage) and self.storages.setdefault(found.key, found) != found:
            raise ValueError("a storage of two lengths or types")
        self.stack.append(found)


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": Record,
    "EMPTY_SET": list,
}
_ARGUMENTS = _words("""
INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING
UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
""")
_STEPS: dict[str, Callable[[_Reader, Any], Any]] = {
    "PROTO": lambda m, a: None,
    "FRAME": lambda m, a: None,
    "MARK": _Reader.mark,
    "POP": lambda m, a: m.stack.pop() if m.stack else m.marked(),
    "POP_MARK": lambda m, a: m.marked(),
    "DUP": lambda m, a: m.stack.append(m.stack[-1]),
    "PUT": _Reader.remember,
    "BINPUT": _Reader.remember,
    "LONG_BINPUT": _Reader.remember,
    "MEMOIZE": _Reader.remember,
    "GET": lambda m, a: m.stack.append(m.memo[a]),
    "BINGET": lambda m, a: m.stack.append(m.memo[a]),
    "LONG_BINGET": lambda m, a: m.stack.append(m.memo[a]),
    "GLOBAL": _Reader.name,
    "STACK_GLOBAL": _Reader.name_from_stack,
    "REDUCE": _Reader.call,
    "NEWOBJ": _Reader.call,
    "NEWOBJ_EX": _Reader.call_with_names,
    "INST": _Reader.call_marked,
    "OBJ": _Reader.call_marked,
    "BUILD": _Reader.build,
    "SETITEM": _Reader.put_one,
    "SETITEMS": _Reader.put_marked,
    "APPEND": lambda m, a: m.add([m.stack.pop()]),
    "APPENDS": _Reader.add_marked,
    "ADDITEMS": _Reader.add_marked,
    "TUPLE1": lambda m, a: m.tuple_of(1),
    "TUPLE2": lambda m, a: m.tuple_of(2),
    "TUPLE3": lambda m, a: m.tuple_of(3),
    "TUPLE": lambda m, a: m.group(tuple),
    "LIST": lambda m, a: m.group(list),
    "FROZENSET": lambda m, a: m.group(list),
    "DICT": lambda m, a: m.group(lambda items: Record(_in_pairs(items))),
    "BINPERSID": lambda m, a: m.stored(m.stack.pop()),
}


def _in_pairs(items: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(items[::2], items[1::2], strict=True))


def _allowed(module: str, name: str) -> Name:
    """The name, unless it is a way of running commands."""
    parts = module.split(".")
    above = {".".join(parts[: i + 1]) for i in range(len(parts))}
    first = name.split(".")[0]
    runs = above & _FORBIDDEN_MODULES or (module in _BUILTINS and first in _FORBIDDEN_NAMES)
    if runs and (module, name) not in _HONEST:
        # Wherever it stands: no training run leaves one behind, so the rest is not to be trusted.
        wanted = short(f"{module}.{name}")
        raise CheckpointError(
            f"it wants {wanted} to be run, as no honest weights do; ask for them as safetensors"
        )
    return Name(module, name)


_HONEST = frozenset({("torch.serialization", "_get_layout")})


def short(text: str) -> str:
    """Text from a file for a sentence: in quotes, printable and not long."""
    shown = "".join(c if c.isprintable() else "?" for c in text[:81])
    return f"'{shown if len(shown) <= 80 else shown[:79] + '…'}'"


# ---------------------------------------------------------------- objects that are known


def _made(function: Any, arguments: Any) -> Any:
    """A tensor, dictionary or shape that is known by name; else a note of the call."""
    if not isinstance(arguments, tuple):
        raise ValueError("a call without a list of arguments")
    if not isinstance(function, Name):
        return Made(None, arguments)
    known = _KNOWN.get(str(function))
    return Made(function, arguments) if known is None else known(*arguments)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Any:
    return _window(storage, getattr(storage, "dtype", None), offset, size, stride)


def _tensor_v3(
    storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *_: Any
) -> Any:
    return _window(storage, dtype_named(dtype), offset, size, stride)


def _window(storage: Any, dtype: Any, offset: Any, size: Any, stride: Any) -> Any:
    if not isinstance(storage, Storage):
        # Plain pickles put the numbers into a pickle of their own, which stays closed.
        return Made(None, (storage,))
    whole = isinstance(size, tuple) and isinstance(stride, tuple) and len(size) == len(stride)
    if not (isinstance(dtype, torch.dtype) and whole):
        raise ValueError("a tensor without type or shape")
    if any(type(n) is not int or n < 0 for n in (offset, *size, *stride)):
        raise ValueError("a tensor with an impossible shape")
    return TensorRef(storage, dtype, offset, size, stride)


def _from_type(function: Any, kind: Any, arguments: Any, state: Any, *_: Any) -> Any:
    return _made(function, arguments)


def _record(*arguments: Any) -> Record:
    items = arguments[-1] if arguments and isinstance(arguments[-1], list) else []
    return Record([(pair[0], pair[1]) for pair in items])


def _size(*arguments: Any) -> tuple[Any, ...]:
    return tuple(arguments[0]) if arguments and isinstance(arguments[0], list | tuple) else ()


_KNOWN: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
    "torch._tensor._rebuild_from_type_v2": _from_type,
    "collections.OrderedDict": _record,
    "collections.defaultdict": _record,
    "builtins.dict": _record,
    "__builtin__.dict": _record,
    "torch.Size": _size,
}


def _storage(identity: Any) -> Any:
    if not isinstance(identity, tuple) or not identity:
        raise ValueError("something else than a storage lies beside the pickle")
    if identity[0] == "module":
        return identity[1] if len(identity) > 1 else None
    if identity[0] != "storage" or len(identity) < 5:
        raise ValueError("something else than a storage lies beside the pickle")
    kind, key, _, numel = identity[1:5]
    dtype = _STORAGES.get(kind.name) if isinstance(kind, Name) else None
    if dtype is None:
        raise CheckpointError(f"it holds numbers of the type {short(str(kind))}")
    if type(numel) is not int or numel < 0:
        raise ValueError("a storage of impossible length")
    return Storage(str(key) if type(key) in (str, int) else "", dtype, numel)


def dtype_named(name: Any) -> torch.dtype | None:
    """The torch type that the file names, or None."""
    if not isinstance(name, Name) or name.module != "torch":
        return None
    found = getattr(torch, name.name, None) if name.name in _DTYPES else None
    return found if isinstance(found, torch.dtype) else None


_DTYPES = _words("""
float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool float8_e4m3fn float8_e5m2
uint16 uint32 uint64 complex64 complex128
""")
