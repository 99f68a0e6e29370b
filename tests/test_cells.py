"""Recurrent cells: what they compute, by hand and by the library; how many parameters; what keeps its place in time."""

import pytest
import torch
from torch.func import functional_call, jacrev, vmap

from memsweep.engine.nn.cells import KERNELS, Carried, Cell
from memsweep.spec.fields.groups import Model
from memsweep.spec.options import CELLS

M, B, FEATURES, WIDTH = 3, 4, 3, 5


def cell_of(name, features=FEATURES, width=WIDTH, seed=0):
    """A cell in double precision, moved away from where it begins, so that no bias is zero and no matrix special."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        cell = Cell(Model(family="recurrent", cell=name, width=width), features).double()
        for parameter in cell.parameters():
            parameter.data += 0.3 * torch.randn_like(parameter)
    return cell


def random(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def step_by_step(cell, inputs, steps, truncation=0):
    """Outputs [T, H, B] by plain steps."""
    carried, outputs = cell.first(inputs.shape[2]), []
    blank = inputs.new_zeros(inputs.shape[2], inputs.shape[1])
    for t in range(steps):
        if truncation and t % truncation == 0:
            carried = Carried(*(value.detach() for value in carried))
        output, carried = cell.step(inputs[t].T if t < len(inputs) else blank, carried)
        outputs.append(output.T)
    return torch.stack(outputs)


@pytest.mark.parametrize(("steps", "given", "truncation"), [(7, 7, 0), (7, 3, 0), (7, 7, 3)])
@pytest.mark.parametrize("name", CELLS)
def test_a_layer_of_many_members_equals_plain_steps_and_their_gradients(name, steps, given, truncation):
    cells = [cell_of(name, seed=m) for m in range(M)]
    inputs, weight = random(M, given, FEATURES, B), random(steps, WIDTH, B)
    parameters = {
        key: torch.stack([dict(cell.named_parameters())[key].detach() for cell in cells])
        for key, _ in cells[0].named_parameters()
    }

    def loss(own, x):
        return (functional_call(cells[0], own, (x, steps, truncation)) * weight).sum()

    leaves = [inputs.clone().requires_grad_(), *(value.requires_grad_() for value in parameters.values())]
    values = vmap(loss)(parameters, leaves[0])
    of_inputs, *found = torch.autograd.grad(values.sum(), leaves)
    of_parameters = dict(zip(parameters, found, strict=True))
    for m, cell in enumerate(cells):
        for outputs_of in (step_by_step, lambda cell, *rest: cell(*rest)):
            x = inputs[m].clone().requires_grad_()
            outputs = outputs_of(cell, x, steps, truncation)
            own_inputs, *own = torch.autograd.grad((outputs * weight).sum(), [x, *cell.parameters()])
            assert torch.allclose(own_inputs, of_inputs[m], rtol=0, atol=1e-12)
            for (key, _), gradient in zip(cell.named_parameters(), own, strict=True):
                assert torch.allclose(gradient, of_parameters[key][m], rtol=0, atol=1e-12), key


@pytest.mark.parametrize("truncation", [0, 3])
@pytest.mark.parametrize("name", KERNELS)
def test_the_librarys_kernel_is_the_same_cell(name, truncation):
    cell, inputs, weight = cell_of(name), random(4, FEATURES, B), random(7, WIDTH, B)
    ours, theirs = (function(inputs, 7, truncation) for function in (cell, cell.by_kernel))
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)
    gradients = [torch.autograd.grad((outputs * weight).sum(), list(cell.parameters())) for outputs in (ours, theirs)]
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_lstm_and_gru_equal_the_librarys_layer(name):
    layer = (torch.nn.LSTM if name == "lstm" else torch.nn.GRU)(FEATURES, WIDTH).double()
    cell, inputs = cell_of(name), random(6, B, FEATURES)
    order = [0, 1, 3, 2] if name == "lstm" else [0, 1, 2]  # theirs i f g o, ours i f o g
    blocks = {key: value.detach().split(WIDTH) for key, value in layer.named_parameters()}
    theirs = {key: torch.cat([parts[i] for i in order]) for key, parts in blocks.items()}
    layer.bias_hh_l0.data.zero_()
    with torch.no_grad():
        cell.weight.copy_(theirs["weight_ih_l0"])
        cell.recurrent.copy_(theirs["weight_hh_l0"])
        cell.bias.copy_(theirs["bias_ih_l0"])
    assert torch.allclose(cell(inputs.mT, 6).mT, layer(inputs)[0], rtol=0, atol=1e-10)


COUNTS = {  # (m, n) -> weights of one layer, as the brief on Choi (2018) tabulates them
    "lstm": {(64, 64): 33024, (64, 128): 98816, (128, 256): 394240, (512, 512): 2099200},
    "gru": {(64, 64): 24768, (64, 128): 74112, (128, 256): 295680, (512, 512): 1574400},
    "pru_a": {(64, 64): 28928, (64, 128): 82432, (128, 256): 328704, (512, 512): 1837056},
    "pru_a+plus_out": {(64, 64): 33088, (64, 128): 98944, (128, 256): 394496, (512, 512): 2099712},
    "pru_b": {(64, 64): 16640, (64, 128): 33280, (128, 256): 132096, (512, 512): 1050624},
    "pru_c": {(64, 64): 28992, (64, 128): 82560, (128, 256): 328960, (512, 512): 1837568},
    "pru_d": {(64, 64): 20672, (64, 128): 57728, (128, 256): 230144, (512, 512): 1312256},
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts_are_those_tabulated(name):
    for (features, width), count in COUNTS[name].items():
        cell = Cell(Model(family="recurrent", cell=name, width=width), features)
        assert sum(parameter.numel() for parameter in cell.parameters()) == count


def kept_in_place(name, gates_frozen):
    """The share of the state's Jacobian over one step that lies off its diagonal, in norm."""
    cell, x = cell_of(name), random(1, FEATURES)
    state, other = random(WIDTH, seed=2), random(WIDTH, seed=3)
    lstm_like = cell.kind.update == "lstm"

    def following(s):
        """The next state. Frozen gates read a past that does not depend on the state."""
        output = torch.sigmoid(other) * torch.tanh(s) if lstm_like else s
        fed = output.detach() if gates_frozen else output
        carried = Carried(fed[None], output[None], s[None])
        if name == "lstm" and gates_frozen:  # its candidate reads the past as its gates do
            free, frozen = cell.recurrent.split(WIDTH)[3], cell.recurrent.split(WIDTH)
            blocks = torch.nn.functional.linear(x, cell.weight, cell.bias).split(WIDTH, 1)
            i, f = (torch.sigmoid(blocks[k] + fed[None] @ frozen[k].T) for k in (0, 1))
            return (f * s + i * torch.tanh(blocks[3] + output[None] @ free.T))[0]
        return cell.step(x, carried)[1].state[0]

    jacobian = jacrev(following)(state)
    return ((jacobian - torch.diag(jacobian.diag())).norm() / jacobian.norm()).item()


@pytest.mark.parametrize("name", ["pru_a", "pru_b", "pru_c", "pru_d"])
def test_with_frozen_gates_each_dimension_of_a_pru_keeps_to_itself(name):
    assert kept_in_place(name, gates_frozen=True) < 1e-6


def test_with_frozen_gates_an_lstm_mixes_dimensions():
    assert kept_in_place("lstm", gates_frozen=True) > 0.01


def test_without_recurrent_gates_nothing_mixes_at_all():
    assert kept_in_place("pru_b", gates_frozen=False) < 1e-6
    assert kept_in_place("pru_a", gates_frozen=False) > 0.01


def test_first_weights():
    cell = Cell(Model(family="recurrent", cell="lstm", width=8, gate_bias=2.0), 3)
    assert torch.equal(cell.bias.split(8)[1], torch.full((8,), 2.0)) and cell.bias.sum() == 16
    for block in cell.recurrent.split(8):
        assert torch.allclose(block @ block.T, torch.eye(8), atol=1e-5)
    irnn = Cell(Model(family="recurrent", cell="irnn", width=8), 3)
    assert torch.equal(irnn.recurrent, torch.eye(8))
