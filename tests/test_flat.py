"""A member's numbers side by side in memory, updated by one operation."""

from typing import NamedTuple

import pytest
import torch

from memsweep.engine.train import optim
from memsweep.engine.train.flat import ALIGNED_BYTES, copy_back, flattened

SHAPES = {"weight": (1, 7, 5), "bias": (1, 7), "scale": (1, 1), "matrix": (1, 33, 16)}


class One(NamedTuple):
    """What `flattened` reads of a state."""

    parameters: dict
    moments: dict


def numbers(generator, dtype):
    return {name: torch.randn(shape, generator=generator, dtype=dtype) for name, shape in SHAPES.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", optim.ELEMENTWISE)
def test_an_update_of_all_at_once_has_the_bits_of_one_a_parameter(name, dtype):
    generator = torch.Generator().manual_seed(7)
    parameters, gradients = numbers(generator, dtype), numbers(generator, dtype)
    moments = {moment: numbers(generator, dtype) for moment in optim.moments(name, parameters)}
    moments = {moment: {key: value.abs() for key, value in rows.items()} for moment, rows in moments.items()}
    values = torch.rand(len(optim.Coefficients._fields), 1, generator=generator, dtype=torch.float64).to(dtype)
    corrections = torch.tensor([optim.corrections((0.9, 0.999), 3)], dtype=torch.float64)
    one = One(parameters, moments)
    changed, flat = flattened(one)
    flat.filled({key: value[0] for key, value in gradients.items()})
    wholes = {"": flat.parameters}, {"": flat.gradients}, {key: {"": value} for key, value in flat.moments.items()}
    optim.update_(name, *wholes, optim.Coefficients(*values), corrections)
    expected = [{key: value.clone() for key, value in rows.items()} for rows in (parameters, *moments.values())]
    parts = dict(zip(moments, expected[1:], strict=True))
    optim.update_(name, expected[0], gradients, parts, optim.Coefficients(*values), corrections)
    assert not torch.equal(expected[0]["matrix"], parameters["matrix"])
    copy_back(changed, one)
    for rows, wanted in zip((parameters, *moments.values()), expected, strict=True):
        assert all(torch.equal(rows[key], wanted[key]) for key in SHAPES)


def test_parameters_begin_where_memory_of_their_own_would():
    one = One(numbers(torch.Generator(), torch.float32), {})
    changed, flat = flattened(one)
    places = [changed.parameters[name].data_ptr() - flat.parameters.data_ptr() for name in SHAPES]
    assert places == sorted(places) and not any(place % ALIGNED_BYTES for place in places)
    assert all(torch.equal(changed.parameters[name], one.parameters[name]) for name in SHAPES)
