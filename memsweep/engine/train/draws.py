"""Random numbers that a user's module draws itself, as nn.Dropout does, for all members at once.

In turn, a module draws from torch's generator, seeded by the member's key of the step. vmap has no generator for each
member. So the draws of one forward pass are recorded when a program is composed, drawn before each step by the same
functions and seeds, member by member, and read while the lifted module runs: a member has the same numbers fused, in
turn and in plain torch.
"""

from __future__ import annotations

import copy
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class Draw(NamedTuple):
    """One draw of a forward pass: factors of a dropout, or noise."""

    function: Callable[..., Tensor]
    shape: tuple[int, ...]
    stride: tuple[int, ...]  # torch draws in the order of memory
    dtype: torch.dtype
    rate: float | None  # of a dropout


class Draws(NamedTuple):
    """The draws of one forward pass in training."""

    each: tuple[Draw, ...] = ()
    is_replaced: bool = False  # whether the module calls functions that `Replay` replaces


DROPOUTS: tuple[Callable[..., Tensor], ...] = (
    functional.dropout,
    functional.dropout1d,
    functional.dropout2d,
    functional.dropout3d,
)
NOISES: Mapping[Callable[..., Tensor], Callable[..., Tensor]] = {
    torch.rand: torch.rand_like,
    torch.randn: torch.randn_like,
    torch.rand_like: torch.rand_like,
    torch.randn_like: torch.randn_like,
}
"""Function -> the function that draws the same numbers into a tensor of the result's shape."""
_attend = functional.scaled_dot_product_attention
_multi_head = functional.multi_head_attention_forward
_multi_head_inside = types.FunctionType(  # its own check for modes would call the mode again, without end
    _multi_head.__code__,
    {**_multi_head.__globals__, "has_torch_function": lambda tensors: False},
    argdefs=_multi_head.__defaults__,
)


def seed(key: int, device: torch.device) -> None:
    """Seeds torch's generator of the device, as torch.manual_seed, which takes 150 us and more."""
    torch.default_generator.manual_seed(key)
    if device.type == "cuda":
        torch.cuda.manual_seed(key)


def recorded(module: nn.Module, inputs: Tensor, **changes: Any) -> Draws:
    """Returns the draws of a forward pass in training; none where the pass fails.  inputs: [B, D]."""
    recorder = _Recorder()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            with recorder:
                copy.deepcopy(module).train()(inputs, **changes)
        except Exception:  # the pack reports it
            return Draws()
    return Draws(tuple(recorder.draws), recorder.is_replaced)


def drawn(draws: Draws, keys: Tensor, passes: int, device: torch.device) -> tuple[Tensor, ...]:
    """Returns the numbers of so many forward passes, one after another, [M, *shape] each.  keys: [M] int64."""
    if not draws.each:
        return ()
    blanks = [torch.empty_strided(d.shape, d.stride, dtype=d.dtype, device=device).fill_(1) for d in draws.each]
    members = []
    for key in keys.tolist():
        seed(key, device)
        members.append(
            [_numbers(draw, blank) for _ in range(passes) for draw, blank in zip(draws.each, blanks, strict=True)]
        )
    return tuple(torch.stack(numbers) for numbers in zip(*members, strict=True))


def _numbers(draw: Draw, blank: Tensor) -> Tensor:
    return draw.function(blank) if draw.rate is None else draw.function(blank, draw.rate, True)


class _Calls(TorchFunctionMode):
    """Handles the functions that draw, and attention, wherever a module calls them."""

    is_replaced = False

    def __torch_function__(
        self,
        function: Callable[..., Any],
        _types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if function in DROPOUTS:
            return self.dropout(function, *args, **kwargs)
        if function in NOISES and kwargs.get("generator") is None:
            return self.noise(function, args, kwargs)
        if function is _attend:
            return self.attention(*args, **kwargs)
        if function is _multi_head:
            with self:
                return _multi_head_inside(*args, **kwargs)
        return function(*args, **kwargs)

    def dropout(
        self, function: Callable[..., Tensor], x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        """Returns the result of a dropout."""
        raise NotImplementedError

    def noise(self, function: Callable[..., Tensor], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
        """Returns noise."""
        raise NotImplementedError

    def attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """Returns the attention of torch's documentation: its fused kernels have no rule for vmap."""
        self.is_replaced = True
        if enable_gqa:
            key, value = (part.repeat_interleave(query.shape[-3] // part.shape[-3], -3) for part in (key, value))
        scores = (query @ key.mT) * (query.shape[-1] ** -0.5 if scale is None else scale)
        if is_causal:
            attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=query.device).tril()
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attn_mask, float("-inf"))
        elif attn_mask is not None:
            scores = scores + attn_mask
        return self.dropout(functional.dropout, scores.softmax(-1), dropout_p) @ value


class _Recorder(_Calls):
    """Records the draws of a module that runs alone."""

    def __init__(self) -> None:
        super().__init__()
        self.draws: list[Draw] = []

    def dropout(
        self, function: Callable[..., Tensor], x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        """Records a dropout that drops some."""
        if training and 0 < p < 1:
            self._record(function, x, p)
        return function(x, p, training, inplace)

    def noise(self, function: Callable[..., Tensor], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
        """Records noise."""
        numbers = function(*args, **kwargs)
        self._record(NOISES[function], numbers, None)
        return numbers

    def _record(self, function: Callable[..., Tensor], like: Tensor, rate: float | None) -> None:
        self.is_replaced = True
        self.draws.append(Draw(function, tuple(like.shape), torch.empty_like(like).stride(), like.dtype, rate))


class Replay(_Calls):
    """Gives a lifted module the numbers that were drawn for it; without numbers, it runs in evaluation mode."""

    def __init__(self, numbers: Iterator[Tensor]):
        super().__init__()
        self.numbers = numbers

    def dropout(
        self, function: Callable[..., Tensor], x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        """Returns x times the drawn factors."""
        if not training or p == 0:
            return x
        factors = self._next(x.shape) if p < 1 else torch.zeros_like(x)
        return x.mul_(factors) if inplace else x * factors

    def noise(self, function: Callable[..., Tensor], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
        """Returns the drawn noise."""
        return self._next(None)

    def _next(self, shape: torch.Size | None) -> Tensor:
        numbers = next(self.numbers, None)
        if numbers is None or (shape is not None and numbers.shape != shape):
            raise RuntimeError("vmap cannot draw random numbers that differ from those of the first forward pass.")
        return numbers
