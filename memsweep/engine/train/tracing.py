"""Traces a function over a whole pack and compiles it, by parts of torch that take seconds to import.

Torch's Dynamo and AOTAutograd make a graph of the first call: free of Python, with changes of the arguments as copies
at its end. AOTInductor compiles the graph to a shared library, which other processes load (`program_files`). Its
kernels are Inductor's, which compiles the graph where AOTInductor cannot.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from memsweep.engine.train import program_files
from memsweep.engine.train.program_files import Input, Library, Record
from memsweep.engine.train.state import map_tensors, tensors_of

# torch has no public way to compile a graph that is traced already
_inductor: Any = import_module("torch._inductor.compile_fx")
_config: Any = import_module("torch._inductor.config")
_autograd_config: Any = import_module("torch._functorch.config")
_symbols_config: Any = import_module("torch.fx.experimental._config")
_virtualized: Any = import_module("torch._inductor.virtualized")


class NotPortableError(Exception):
    """A program that only the process that traced it can run."""


class Traced(NamedTuple):
    """A function after its first call."""

    run: Library | Callable[..., Any]  # a library, or what only this process can run
    result: Any  # of the first call


def first_call(
    function: Callable[..., Any], bound: Callable[..., Any], values: Sequence[Any], name: str | None
) -> Traced:
    """Compiles a function and calls it; a library goes to disk under this name.

    bound: the function without its first argument, with its own code object.  values: the other arguments.
    name: None: nothing is kept on disk.
    """
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = 10_000
    map_tensors(_mark_sizes_that_change, tuple(values))
    options: dict[str, Any] = {"guard_filter_fn": _kept_guards}
    folder = _writable_folder() if name else None
    if name is None or folder is None:
        run = torch.compile(bound, fullgraph=True, options=options)
        return Traced(run, run(*values))
    # not duck shapes: sizes that happen to be equal in this call need not be so in others
    with tempfile.TemporaryDirectory(dir=folder) as place, _symbols_config.patch(use_duck_shape=False):
        capture = Capture(Path(place))
        run = torch.compile(bound, fullgraph=True, backend=capture, options=options)
        result = run(*values)
        try:
            record, path = capture.record(values, result)
            library = Library(function, record, path)
        except Exception as error:  # of torch's insides, too; the program runs as it is
            capture.problem = capture.problem or error
            return Traced(run, result)
        finally:
            capture.forget()
        program_files.save(name, record, path)
    return Traced(library, result)


def _writable_folder() -> Path | None:
    try:
        program_files.folder().mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return program_files.folder()


def _mark_sizes_that_change(tensor: Tensor) -> None:
    """Members or rows come first; labels [M, N] have as many columns as the largest member has examples."""
    torch._dynamo.maybe_mark_dynamic(tensor, 0)
    if tensor.dim() == 2 and tensor.dtype in (torch.int64, torch.bool):
        torch._dynamo.maybe_mark_dynamic(tensor, 1)


def _kept_guards(entries: Sequence[Any]) -> list[bool]:
    """The guards that torch checks before each call: the tensors' types and sizes; the program's key covers all else.

    A thousand other guards, of modules and closures, take 0.3 ms a call, which is 5 us a member step. They would also
    distinguish programs made of the same function; the code objects of bound functions do that instead.
    """
    return [entry.guard_type in ("TENSOR_MATCH", "SHAPE_ENV") for entry in entries]


class Capture:
    """A backend of torch.compile that compiles its first graph to a library, and records the first call."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.problem: Exception | None = None  # why there is no library
        self._path: Path | None = None
        self._is_recording = True
        self._inputs: list[Tensor] = []  # of the graph as it was traced, with symbols as sizes
        self._given: list[Tensor] = []  # by the first call
        self._returned: list[Tensor] = []

    def __call__(self, graph: GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
        """Returns the compiled graph."""
        # torch's cache would return what Inductor compiled
        with _autograd_config.patch(enable_autograd_cache=False):
            compiled: Callable[..., Any] = _inductor.compile_fx(graph, inputs, inner_compile=self._compile)
        return compiled

    def _compile(self, graph: GraphModule, inputs: Sequence[Any], **options: Any) -> Any:
        try:
            # compiling changes a graph; its constants are shared
            return self._compiled(GraphModule(graph, copy.deepcopy(graph.graph)), inputs)
        except Exception as error:  # Inductor compiles more than AOTInductor
            self.problem = error
            return _inductor.compile_fx_inner(graph, inputs, **options)

    def _compiled(self, graph: GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
        if self._path is not None:
            raise NotPortableError("the program has several graphs")
        are_tensors = [isinstance(given, Tensor) for given in inputs]
        self._inputs = [given for given in inputs if isinstance(given, Tensor)]
        _read_sizes_from_tensors(graph)
        self._path = _library_of(graph, self._inputs, self.folder)
        run = torch._C._aoti.AOTIModelContainerRunnerCpu(str(self._path), 1).run

        def call(args: list[Any]) -> list[Tensor]:
            given = [value for value, is_tensor in zip(args, are_tensors, strict=True) if is_tensor]
            args.clear()
            returned: list[Tensor] = run(given)
            if self._is_recording:
                self._given, self._returned = given, returned
            return returned

        call._boxed_call = True  # type: ignore[attr-defined]  # torch passes one list, to be cleared
        return call

    def record(self, values: Sequence[Any], result: Any) -> tuple[Record, Path]:
        """Returns how the function is called through its library, and the library's file.

        values, result: the arguments of the first call, and what it returned.
        Raises NotPortableError where a tensor of the graph is neither, or a size must meet a further condition.
        """
        if self.problem or self._path is None:
            raise NotPortableError("AOTInductor could not compile the graph") from self.problem
        arguments = tensors_of(tuple(values))
        leaves, returned = _places(arguments), _places(self._returned)
        if not all(id(tensor) in leaves for tensor in self._given):
            raise NotPortableError("an input of the graph is not a tensor of the arguments, or is two of them")
        if result is None or not all(id(tensor) in returned for tensor in tensors_of(result)):
            raise NotPortableError("the result is nothing, or a tensor of it is not an output of the graph")
        if not all(map(program_files.is_plain, self._given)):
            raise NotPortableError("an input of the graph does not lie in memory row after row")
        inputs = tuple(
            Input(leaves[id(tensor)], str(traced.dtype), tuple(map(_size, _sizes(traced))))
            for tensor, traced in zip(self._given, self._inputs, strict=True)
        )
        outputs = tuple(returned[id(tensor)] for tensor in tensors_of(result))
        sizes = [size.node for tensor in self._inputs for size in _sizes(tensor) if isinstance(size, torch.SymInt)]
        symbols = [size for size in sizes if size.expr.is_Symbol]
        digest, limits, orders = program_files.digest(self._path), _limits(symbols), _orders(symbols)
        return Record(digest, len(arguments), inputs, limits, orders, outputs), self._path

    def forget(self) -> None:
        """Releases the tensors of the first call; later calls are not recorded."""
        self._is_recording = False
        self._inputs, self._given, self._returned = [], [], []


def _places(tensors: Iterable[Tensor]) -> dict[int, int]:
    """Returns id -> place of each tensor that occurs once."""
    ids = [id(tensor) for tensor in tensors]
    return {key: place for place, key in enumerate(ids) if ids.count(key) == 1}


def _read_sizes_from_tensors(graph: GraphModule) -> None:
    """Replaces inputs of the graph that are sizes, which a library can't have, by sizes of its tensors."""
    inputs = graph.graph.find_nodes(op="placeholder")
    sources: dict[Any, tuple[Node, int]] = {}
    for node in inputs:
        if isinstance(value := node.meta["val"], Tensor):
            for dim, size in enumerate(_sizes(value)):
                if isinstance(size, torch.SymInt):
                    sources.setdefault(size.node.expr, (node, dim))
    first = next(node for node in graph.graph.nodes if node.op != "placeholder")
    with graph.graph.inserting_before(first):
        for node in inputs:
            if isinstance(value := node.meta["val"], torch.SymInt):
                read = graph.graph.call_function(torch.ops.aten.sym_size.int, sources[value.node.expr])
                read.meta["val"] = value
                node.replace_all_uses_with(read)
                graph.graph.erase_node(node)
    graph.recompile()


def _library_of(graph: GraphModule, inputs: Sequence[Tensor], folder: Path) -> Path:
    """Returns the shared library of a graph, made in this folder."""
    options = {"cpp_wrapper": True, "aot_inductor.output_path": str(folder)}
    with _virtualized.V.set_aot_compilation(True), _config.patch(options):
        result = _inductor.compile_fx_inner(graph, inputs, cpp_wrapper=True, is_inference=True)
    path = Path(result.filename)
    if path.with_suffix(".json").exists():
        raise NotPortableError("the graph has operations that a library can't call itself")
    return path


def _sizes(tensor: Tensor) -> tuple[Any, ...]:
    """Returns the sizes of a tensor of a graph, numbers and symbols, which torch declares as numbers."""
    return tuple(tensor.shape)


def _size(size: Any) -> int | str:
    """Returns a size as a number, or the name of its symbol."""
    if isinstance(size, int):
        return size
    expression = size.node.expr
    if expression.is_Integer:
        return int(expression)
    if expression.is_Symbol:
        return str(expression)
    raise NotPortableError(f"a size is {expression}")


def _limits(symbols: Sequence[Any]) -> dict[str, tuple[int, int | None]]:
    """Returns the least and the largest value of each size for which the graph was traced."""
    limits: dict[str, tuple[int, int | None]] = {}
    for size in symbols:
        bounds = size.shape_env.var_to_range[size.expr]
        limits[str(size.expr)] = (int(bounds.lower), int(bounds.upper) if bounds.upper.is_Integer else None)
    return limits


def _orders(symbols: Sequence[Any]) -> tuple[tuple[str, str], ...]:
    """Returns the pairs of sizes of which the first must be at most the second.

    Raises NotPortableError for other conditions that neither limits nor equal names imply.
    """
    names, orders = {str(size.expr) for size in symbols}, []
    for guard in symbols[0].shape_env.guards if symbols else ():
        condition = symbols[0].shape_env.replace(guard.expr)
        if symbols[0].shape_env._maybe_evaluate_static(guard.expr, axioms=()):
            continue
        is_order = condition.is_Relational and condition.rel_op in ("<=", ">=")
        if not is_order or not all(str(side) in names for side in condition.args):
            raise NotPortableError(f"sizes must satisfy {condition}")
        orders.append((str(condition.lts), str(condition.gts)))
    return tuple(orders)
