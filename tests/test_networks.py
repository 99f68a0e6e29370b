"""Networks that come ready-made: residual, transformer, normalized MLP, random features; and their parametrization."""

import math

import pytest
import torch
from torch import nn

from memsweep.data import tasks
from memsweep.engine.nn import models
from memsweep.engine.nn.residual import normalization
from memsweep.engine.train import trainer
from memsweep.engine.train.evaluation import layers_of, numbers_of
from memsweep.engine.train.state import rows_of
from memsweep.run import plan
from memsweep.run.packing import describe, program_name
from memsweep.spec.config import ConfigError
from memsweep.spec.sweep import SweepError
from tests.cases import GPT, RECURRENT, RESIDUAL, STRINGS, TrialConfig, trial


def built(one):
    return models.build(one, *tasks.shape(one))


def gpt(**fields):
    return TrialConfig.of({**trial("transformer, strings").flat(), "protocol": None, **fields})


def test_a_residual_network_of_depth_3_and_width_16_is_resnet_20():
    one = trial("resnet", data__task="gaussian", data__input_dim=3072, data__label_scheme="random", data__classes=10)
    network = built(one.with_fields({"model.width": 16, "model.depth": 3}))
    assert sum(isinstance(part, nn.Conv2d) for part in network.modules()) == 19 + 2  # and two shortcuts
    assert sum(value.numel() for value in network.parameters()) == 272_474
    assert network(torch.randn(2, 3072)).shape == (2, 10)


def test_a_residual_network_reads_images_of_four_pixels_a_side_and_more():
    small = trial("resnet", data__task="gaussian", data__input_dim=16, data__label_scheme="random", data__classes=3)
    assert tasks.check(small) == []
    (problem,) = tasks.check(small.with_fields({"data.input_dim": 9}))
    assert "'resnet' with 9 inputs: needs square images with sides of 4 pixels or more" in problem
    assert describe(trial("resnet")).startswith("resnet 64-(4)-10")


def test_groups_have_eight_channels():
    assert [normalization("group", units).num_groups for units in (8, 12, 16, 64)] == [1, 1, 2, 8]


def test_a_block_of_the_transformer_is_torchs_layer_with_normalization_first():
    block = built(gpt(**{"model.width": 12, "model.heads": 3})).blocks[0]
    layer = nn.TransformerEncoderLayer(12, 3, 48, 0.0, "gelu", batch_first=True, norm_first=True)
    pairs = {
        "self_attn.in_proj": block.query_key_value,
        "self_attn.out_proj": block.leave,
        "linear1": block.widen,
        "linear2": block.narrow,
        "norm1": block.norm_attention,
        "norm2": block.norm_dense,
    }
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    ends = {"self_attn.in_proj": "_"}
    layer.load_state_dict(
        {
            f"{name}{ends.get(name, '.')}{end}": value
            for name, part in pairs.items()
            for end, value in part.state_dict().items()
        }
    )
    x, mask = torch.randn(4, 5, 12), nn.Transformer.generate_square_subsequent_mask(5)
    assert torch.allclose(block(x), layer(x, mask), atol=1e-5)


def test_the_transformer_reads_no_later_token():
    network, one = built(gpt()), gpt()
    tokens = torch.randint(7, (3, tasks.shape(one)[0])).float()
    changed = tokens.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 7
    before, after = (network.embedded(x) for x in (tokens, changed))
    for block in network.blocks:
        before, after = block(before), block(after)
    assert torch.equal(before[:, :-1], after[:, :-1]) and not torch.equal(before[:, -1], after[:, -1])


def test_first_weights_that_end_in_a_sum_shrink_with_the_number_of_sums():
    network = built(gpt(**{"model.width": 64, "model.heads": 2, "model.depth": 8}))
    wide, added = (
        torch.cat([getattr(b, name).weight.flatten() for b in network.blocks]).std() for name in ("widen", "narrow")
    )
    assert float((added / wide).detach()) == pytest.approx(1 / 4, rel=0.05)


@pytest.mark.parametrize(
    "fields, rule",
    [
        ({**GPT, **STRINGS, "model.heads": 3}, "set model.heads to a divisor of model.width"),
        ({"model.frozen_layers": 3}, "set model.frozen_layers to model.depth or less"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_before_a_launch_and_when_built(fields, rule):
    one = trial(**{name.replace(".", "__"): value for name, value in fields.items()})
    with pytest.raises(SweepError, match=rule):
        plan.check([one])
    with pytest.raises(ConfigError, match=rule):
        built(one)


@pytest.mark.parametrize(
    "fields, rule",
    [
        ({"model.heads": 2}, "only the family transformer has heads"),
        ({**RESIDUAL, "model.norm": "layer"}, "resnet batch and group"),
        ({"model.norm": "layer", "model.initialization": "interpolating", "model.depth": 1}, "without normalization"),
        ({**RESIDUAL, "model.frozen_layers": 1}, "only layers of an mlp can be frozen"),
        ({**RESIDUAL, "model.parametrization": "mup"}, "mup is defined for an mlp with hidden layers"),
        ({"model.depth": 0, "model.parametrization": "mup"}, "mup is defined for an mlp with hidden layers"),
        ({"model.parametrization": "mup", "model.initialization": "orthogonal"}, "set model.initialization to default"),
        ({"model.parametrization": "mup", "optimizer.name": "muon"}, "mup has rates for sgd, nesterov, adam, adamw"),
        ({"model.base_width": 8}, "only mup has a base width"),
        ({"compute.autocast": "bfloat16", "compute.dtype": "float64"}, "set compute.dtype to float32"),
        ({"compute.autocast": "bfloat16", **RECURRENT, "model.cell": "gru"}, "set compute.autocast to none"),
        ({"probes": ("loss_sensitivity",), "compute.autocast": "bfloat16"}, "computed without autocast"),
        ({"probes": ("loss_sensitivity",), "optimizer.averaging": 0.5}, "set optimizer.averaging to 0"),
        ({"probes": ("loss_sensitivity",), "model.norm": "batch"}, "sensitivities need a network without"),
        ({"probes": ("loss_sensitivity",), "model.frozen_layers": 1}, "set model.frozen_layers to 0"),
        ({"probes": ("loss_sensitivity",), "model.parametrization": "mup"}, "sensitivities need one rate"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(fields, rule):
    with pytest.raises(ConfigError, match=rule):
        trial(**{name.replace(".", "__"): value for name, value in fields.items()})


def test_random_features_stay_as_drawn_and_the_rest_learns():
    one = trial("random features")
    program = trainer.compose([one])
    state = trainer.init(program, [one])
    first = {name: value.clone() for name, value in numbers_of(state).items()}
    assert float(first["layers.0.weight"].std()) == pytest.approx((2 / 64) ** 0.5, rel=0.05)  # he, frozen or not
    state, _ = trainer.advance(program, state, 5)
    kept = {name for name, value in numbers_of(state).items() if torch.equal(value, first[name])}
    assert kept == {"layers.0.weight", "layers.0.bias"}
    assert (state.members[0].parameter_count, state.members[0].frozen_count) == (48 * 10 + 10, 64 * 48 + 48)


def test_programs_differ_by_what_their_code_reads_and_old_names_stay():
    names = [program_name(trial(case)) for case in ("momentum", "layer norm", "batch norm", "mup")]
    names.append(program_name(trial("momentum", model__frozen_layers=1)))
    assert len(set(names)) == 5 and names[0] == "mlp 8 2 none relu 0 64 10 sgd 20 float32"


# The coordinate check of Yang et al. (2022): how far activations move in some steps, by width.

WIDTHS = (32, 256)
MLP = {
    "optimizer__momentum": 0.9,
    "optimizer__learning_rate": 0.05,
    "data__noise_kind": "none",
    "data__noise_fraction": 0,
}
ADAM = {**MLP, "optimizer__name": "adam", "optimizer__momentum": 0.0, "optimizer__learning_rate": 0.01}
DIGITS = {**ADAM, **{name.replace(".", "__"): value for name, value in {**GPT, "data.sequence_length": 8}.items()}}
DIGITS |= {"optimizer__name": "adam", "optimizer__momentum": 0.0, "optimizer__learning_rate": 0.01, "model__depth": 1}


def moves(width, parametrization, fields):
    """Root mean square change of the last hidden layer and of the logits in five steps, mean of three seeds."""
    fixed = {
        "model__width": width,
        "model__parametrization": parametrization,
        "stop__steps": 5,
        "stop__measure_steps": 5,
    }
    trials = [trial(seed=seed, **{**fields, **fixed}) for seed in range(3)]
    program = trainer.compose(trials)
    state = trainer.init(program, trials)
    inputs = rows_of(state.examples.bank, state.examples.offset[:, None] + torch.arange(64))

    def activations():
        with torch.no_grad():
            members = [{name: value[m].clone() for name, value in numbers_of(state).items()} for m in range(3)]
            layers = [layers_of(program, numbers, x) for numbers, x in zip(members, inputs, strict=True)]
        return [torch.stack(parts) for parts in zip(*((hidden[-1], logits) for hidden, logits in layers), strict=True)]

    before = activations()
    state, _ = trainer.train(program, state, 5)
    return [float((b - a).square().mean().sqrt()) for a, b in zip(before, activations(), strict=True)]


@pytest.mark.parametrize("name, fields", [("sgd", MLP), ("adam", ADAM), ("transformer", DIGITS)])
def test_activations_move_alike_at_both_widths_with_mup_alone(name, fields):
    slopes = {}
    for parametrization in ("standard", "mup"):
        small, large = (moves(width, parametrization, fields) for width in WIDTHS)
        span = math.log(WIDTHS[1] / WIDTHS[0])
        slopes[parametrization] = [math.log(b / a) / span for a, b in zip(small, large, strict=True)]
    assert max(map(abs, slopes["mup"])) < 0.25, slopes
    assert max(map(abs, slopes["standard"])) > 0.3, slopes


def test_mup_at_its_base_width_is_standard():
    fields = {"model.width": 4, "model.base_width": 4}
    one = trial("mup").with_fields(fields)
    other = one.with_fields({"model.parametrization": "standard", "model.base_width": 32})
    assert trainer.compose([one]).rate_factors == ()
    assert all(torch.equal(a, b) for a, b in zip(built(one).parameters(), built(other).parameters(), strict=True))
