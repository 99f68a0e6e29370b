"""A sweep expands into trials, a sweep file is read, axes come from the command line; wrong ones are told apart."""

import itertools
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memsweep.spec.axes import linspace, log2, logspace
from memsweep.spec.config import FIELDS, TrialConfig
from memsweep.spec.options import LIMIT, STREAMS
from memsweep.spec.overrides import parse_overrides
from memsweep.spec.sweep import Sweep, SweepError
from memsweep.spec.sweep_files import load_sweep, load_sweeps

NOISE = {"data.noise_kind": "labels"}


def problems(call, *arguments, **options):
    with pytest.raises(SweepError) as caught:
        call(*arguments, **options)
    return caught.value.problems


def problem(call, *arguments, **options):
    (only,) = problems(call, *arguments, **options)
    return only


def points(sweep, *names):
    return [tuple(trial.flat()[name] for name in names) for trial in sweep.trials]


# The grid.


def test_axes_are_multiplied_in_their_order_and_seeds_go_fastest():
    sweep = Sweep("grid", axes={"model.width": (8, 16), "model.depth": (1, 2, 3)}, seeds=(5, 7))
    assert points(sweep, "model.width", "model.depth", "seed") == list(itertools.product((8, 16), (1, 2, 3), (5, 7)))
    assert sweep.setting_count == 6


def test_zipped_axes_go_together():
    zipped = {("model.width", "model.depth"): [(8, 1), (16, 2)], "optimizer.epochs": (1, 2)}
    sweep = Sweep("zipped", axes=zipped)
    assert points(sweep, "model.width", "model.depth", "optimizer.epochs") == [
        (8, 1, 1),
        (8, 1, 2),
        (16, 2, 1),
        (16, 2, 2),
    ]


def test_without_axes_there_is_one_trial_a_seed():
    assert points(Sweep("plain", {"model.width": 8}, seeds=range(3)), "seed", "model.width") == [(0, 8), (1, 8), (2, 8)]


def test_base_may_be_a_configuration():
    base = TrialConfig.of({"model.width": 8, "model.depth": 1})
    assert points(Sweep("based", base, axes={"model.depth": (3,)}), "model.width", "model.depth") == [(8, 3)]


def test_axes_may_complete_a_base_that_is_not_valid_alone():
    sweep = Sweep("noise", {"data.noise_fraction": 0.5}, axes={"data.noise_kind": ("labels", "wrong_labels")})
    assert [trial.data.noise_kind for trial in sweep.trials] == ["labels", "wrong_labels"]


def test_an_axis_may_be_any_iterable_and_is_read_once():
    sweep = Sweep("lazy", axes={"model.width": (w for w in (8, 16))}, seeds=iter(range(2)))
    assert len(sweep.trials) == 4
    assert len(sweep.with_axes({"model.depth": (1, 2)}).trials) == 8


def test_text_is_one_value_and_no_axis_of_letters():
    assert points(Sweep("one", axes={"model.activation": "tanh"}), "model.activation") == [("tanh",)]


def test_a_tuple_field_takes_tuples_as_values():
    sweep = Sweep("betas", {"optimizer.name": "adamw"}, axes={"optimizer.betas": [(0.8, 0.9), (0.9, 0.99)]})
    assert points(sweep, "optimizer.betas") == [((0.8, 0.9),), ((0.9, 0.99),)]


def test_order_of_axes_changes_no_trial():
    axes = {"model.width": (8, 16), "model.depth": (1, 2)}
    one, other = (Sweep("order", axes=a, seeds=range(2)) for a in (axes, dict(reversed(axes.items()))))
    assert {t.trial_id for t in one.trials} == {t.trial_id for t in other.trials}


@given(st.sets(st.integers(1, 100), min_size=1, max_size=4), st.sets(st.integers(0, 9), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_every_point_of_the_grid_is_there_once(widths, seeds):
    sweep = Sweep("all", axes={"model.width": widths}, seeds=seeds)
    assert len({trial.trial_id for trial in sweep.trials}) == len(sweep.trials) == len(widths) * len(seeds)
    assert len({trial.setting_id for trial in sweep.trials}) == sweep.setting_count == len(widths)


# Spacings.


def test_linspace_includes_both_ends_and_reads_as_meant():
    assert linspace(0, 0.3, 4) == (0.0, 0.1, 0.2, 0.3)
    assert linspace(2, 1, 3) == (2.0, 1.5, 1.0)
    assert linspace(3, 9, 1) == (3.0,)


def test_logspace_reads_as_meant():
    assert logspace(-6, -2, 5) == (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)


def test_log2_doubles_up_to_high():
    assert log2(64, 1024) == (64, 128, 256, 512, 1024)
    assert log2(3, 13) == (3, 6, 12)
    assert log2(5, 5) == (5,)


@given(st.floats(-1e6, 1e6), st.floats(0.001, 1e6), st.integers(2, 50))
@settings(max_examples=100, deadline=None)
def test_linspace_is_evenly_spaced(low, width, count):
    values = linspace(low, low + width, count)
    assert len(values) == count
    assert (values[0], values[-1]) == pytest.approx((low, low + width), rel=1e-11)
    assert all(b - a == pytest.approx(width / (count - 1), rel=1e-3, abs=1e-5) for a, b in itertools.pairwise(values))


@given(st.integers(1, 1000), st.integers(0, 12), st.floats(0, 0.99))
@settings(max_examples=100, deadline=None)
def test_log2_ends_at_the_last_doubling(low, doublings, beyond):
    assert log2(low, int(low * 2 ** (doublings + beyond))) == tuple(low * 2**i for i in range(doublings + 1))


# What is refused.


def test_everything_wrong_is_told_at_once():
    found = problems(
        Sweep,
        "bad name",
        {"model.dpeth": 2, "optimizer.epochs": 0},
        axes={
            "model.witdh": (1,),
            "model.width": (),
            "data.noise_fraction": (0.5, 1.5),
            ("stop.fit", "stop.steps"): [1],
        },
        seeds=(-1,),
    )
    expected = ("name 'bad name'", "'model.dpeth'", "optimizer.epochs = 0", "axis 'model.witdh'", "axis 'model.width'")
    expected += ("data.noise_fraction = 1.5", "axis ('stop.fit', 'stop.steps'): 1 must be 2 values", "seed = -1")
    expected += ("data.noise_fraction = 0.5, data.noise_kind = 'none': a fraction needs a kind of noise",)
    assert len(found) == len(expected)
    assert all(text.startswith(start) for text, start in zip(found, expected, strict=True))
    assert "Did you mean 'model.depth'?" in found[1] and "Did you mean 'model.width'?" in found[3]


def test_an_empty_axis_is_refused():
    assert problem(Sweep, "empty", axes={"model.width": ()}) == (
        "axis 'model.width' is empty: give it at least one value."
    )


def test_no_seeds_are_refused():
    assert problem(Sweep, "empty", seeds=()).startswith("seeds is empty")


@pytest.mark.parametrize("name", ["", "-x", "a b", "a/b", "../x", "x\n", "ä", None, 3])
def test_names_that_are_no_file_names_are_refused(name):
    assert problem(Sweep, name).startswith("name ")


def test_names_longer_than_files_can_carry_are_refused():
    assert problem(Sweep, "x" * 280).endswith("has 280 characters; at most 100, since files are called by it.")
    assert Sweep("x" * 100).name == "x" * 100


@pytest.mark.parametrize(
    "options",
    [
        {"axes": {"model.width": (8, 8)}},
        {"axes": {"model.width": (8, 8.0)}},
        {"axes": {"regularization.dropout": (0.0, -0.0)}},
        {"axes": {"probes": [(), ("examples",)]}},
        {"axes": {("model.width", "model.depth"): [(8, 1), (8, 1)]}},
        {"seeds": (1, 2, 1)},
        {"axes": {"seeds.init": (None, 1)}, "base": {f"seeds.{s}": 0 for s in ("inputs", "labels", "noise", "order")}}
        | {"seeds": (1,)},
    ],
)
def test_the_same_trial_twice_is_refused(options):
    assert problem(Sweep, "twice", **options).startswith("duplicate trial: (")


def test_a_duplicate_names_both_points():
    text = problem(Sweep, "twice", axes={"model.width": (8, 16, 8)}, seeds=(3,))
    assert text == "duplicate trial: (model.width=8, seed=3) is the same as (model.width=8, seed=3)."


def test_an_axis_of_seeds_is_refused():
    assert "seeds=..." in problem(Sweep, "seeded", axes={"seed": (1, 2)})


@pytest.mark.parametrize(
    "axes",
    [
        {"model.width": (8,), ("model.width", "model.depth"): [(16, 1)]},
        {("model.width", "model.depth"): [(16, 1)], ("model.depth", "stop.steps"): [(1, 1)]},
        {("model.width", "model.width"): [(8, 16)]},
    ],
)
def test_a_field_on_two_axes_is_refused(axes):
    assert "is listed twice" in problem(Sweep, "twice", axes=axes)


def test_a_seed_in_the_base_is_not_lost():
    """`seeds` decides replicates; a base with its own seed must be followed or refused, never overruled unsaid."""
    try:
        sweep = Sweep("seeded", {"seed": 3})
    except SweepError as error:
        assert "seed" in str(error)
    else:
        assert [trial.seed for trial in sweep.trials] == [3]


def test_combinations_that_cannot_be_trained_are_refused_once_each():
    found = problems(Sweep, "noise", axes={"data.noise_fraction": (0.0, 0.5), "model.width": (8, 16)}, seeds=range(3))
    assert len(found) == 1 and "data.noise_kind" in found[0]


# Changes from the command line.


def test_overrides_replace_and_add_axes_and_seeds():
    sweep = Sweep("grid", axes={"model.width": (8, 16)}, seeds=range(2))
    changed = sweep.with_axes({"model.width": (4,), "model.depth": (1, 3), "seeds": (7,)})
    assert points(changed, "model.width", "model.depth", "seed") == [(4, 1, 7), (4, 3, 7)]
    assert len(sweep.trials) == 4 and changed.name == "grid"


def test_a_zipped_axis_is_not_overridden():
    sweep = Sweep("zipped", axes={("model.width", "model.depth"): [(8, 1), (16, 2)]})
    assert problem(sweep.with_axes, {"model.depth": (1,)}).startswith(
        "--set model.depth: it is zipped with model.width"
    )


@pytest.mark.parametrize(
    "assignment, values",
    [
        ("model.width=16,32", (16, 32)),
        (" model.width = 16 , 32 ", (16, 32)),
        ("model.activation=tanh,relu", ("tanh", "relu")),
        ("optimizer.learning_rate=0.1,1e-3,1", (0.1, 1e-3, 1.0)),
        ("data.noise_fraction=linspace(0, 0.9, 4)", (0.0, 0.3, 0.6, 0.9)),
        ("regularization.weight_decay=logspace(-3,-1,3)", (1e-3, 1e-2, 1e-1)),
        ("model.width=log2(16,64)", (16, 32, 64)),
        ("seeds=0:5", (0, 1, 2, 3, 4)),
        ("seed=3,5", (3, 5)),
        ("seeds.init=2:4", (2, 3)),
        ("optimizer.betas=0.9,0.99", ((0.9, 0.99),)),
        ("probes=examples", (("examples",),)),
        ("probes=,", ((),)),
        ("optimizer.schedule=step:15:0.5", ("step:15:0.5",)),
        ("model.family=my_lab.nets:MyNet", ("my_lab.nets:MyNet",)),
    ],
)
def test_overrides_are_parsed(assignment, values):
    assert list(parse_overrides([assignment]).values()) == [values]


@pytest.mark.parametrize(
    "assignment, word",
    [
        ("model.width", "FIELD=VALUE"),
        ("model.width=", "FIELD=VALUE"),
        ("model.witdh=3", "Did you mean 'model.width'?"),
        ("=3", "no field"),
        ("model.width=a", "'a' is no whole number"),
        ("model.width=1.5", "'1.5' is no whole number"),
        ("model.width=1,,2", "'' is no whole number"),
        ("optimizer.learning_rate=fast", "'fast' is no number"),
        ("model.width=geomspace(1,2,3)", "linspace, logspace, log2"),
        ("model.width=log2(0,4)", "can't be computed"),
        ("model.width=log2(-1,4)", "can't be computed"),
        ("model.width=log2(1,2,3)", "can't be computed"),
        ("model.width=linspace(1+1,4,2)", "can't be computed"),
        ("model.width=linspace('a',4,2)", "can't be computed"),
        ("model.width=log2(__import__('os').getpid(),4)", "can't be computed"),
        ("optimizer.betas=0.9,x", "'x' is no number"),
    ],
)
def test_wrong_overrides_say_why(assignment, word):
    text = problem(parse_overrides, [assignment])
    assert text.startswith("--set ") and word in text


@pytest.mark.parametrize(
    "text",
    ["seeds=0:99999999999999", "model.width=log2(" + "-" * 9999 + "1,4)"],
    ids=["seeds", "minus signs"],
)
def test_overrides_beyond_reason_are_refused(text):
    problem(parse_overrides, [text])


@pytest.mark.parametrize(
    "assignments, words",
    [
        (
            ["model.width=16", "model.width=32"],
            "--set model.width=16 and --set model.width=32: a field is set once; "
            "give all values at once: --set model.width=16,32.",
        ),
        (["seeds=0:3", "seed=5"], "--set seeds=0:3 and --set seed=5: a field is set once; keep one of them."),
        (["model.width=log2(8,64)", "model.width=9"], "keep one of them"),
        (["optimizer.betas=0.9,0.99", "optimizer.betas=0.8,0.99"], "keep one of them"),
    ],
)
def test_a_field_that_is_set_twice_is_refused(assignments, words):
    assert words in problem(parse_overrides, assignments)


def test_seeds_under_both_their_names_are_refused():
    assert "give one of them" in problem(Sweep("s").with_axes, {"seed": (1,), "seeds": (2,)})


def test_all_wrong_overrides_are_told_at_once():
    assert len(problems(parse_overrides, ["model.width=a", "seeds=0:2", "model.dpeth=1", "x"])) == 3


NUMBERS = st.sampled_from(["0", "1", "-1", "2.5", "1e-3", "1e400", "nan", "inf", "16", "'a'", "[]", "None", "True", ""])
CALLS = st.builds(
    lambda name, arguments: f"{name}({','.join(arguments)})",
    st.sampled_from(["linspace", "logspace", "log2", "exec"]),
    st.lists(NUMBERS, max_size=4),
)
TEXTS = CALLS | NUMBERS | st.builds("{}:{}".format, NUMBERS, NUMBERS) | st.text(max_size=20) | st.just("1,2")


@given(st.lists(st.builds("{}={}".format, st.sampled_from([*FIELDS, "seeds"]) | st.text(max_size=12), TEXTS) | TEXTS))
@settings(max_examples=300, deadline=None)
def test_any_override_makes_a_sweep_or_a_sweep_error(assignments):
    try:
        Sweep("fuzz", NOISE).with_axes(parse_overrides(assignments))
    except SweepError as error:
        assert error.problems


# Sweep files.


@pytest.fixture
def file(tmp_path):
    def write(text, encoding="utf-8"):
        path = tmp_path / "question.py"
        path.write_text(textwrap.dedent(text), encoding)
        return str(path)

    return write


GOOD = """\
    from memsweep import Sweep
    SWEEP = Sweep("question", axes={"model.width": (8, 16)})
"""


def test_a_sweep_file_is_read(file):
    assert len(load_sweep(file(GOOD)).trials) == 2


def test_a_byte_order_mark_is_no_error(file):
    assert load_sweep(file(GOOD, "utf-8-sig")).name == "question"


def test_a_bare_name_is_looked_up_in_sweeps(file, tmp_path, monkeypatch):
    (tmp_path / "sweeps").mkdir()
    file(GOOD)
    (tmp_path / "question.py").rename(tmp_path / "sweeps" / "mine.py")
    monkeypatch.chdir(tmp_path)
    assert load_sweep("mine").name == "question"
    assert "Did you mean 'mine'?" in problem(load_sweep, "mien")


def test_our_own_sweeps_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_sweep("smoke").name == "smoke"


@pytest.mark.parametrize("name", ["smok", "sweeps/smok.py"])
def test_a_missing_file_names_the_nearest(name):
    assert problem(load_sweep, name) == f"{name}: no such sweep file. Did you mean 'smoke'?"


@pytest.mark.parametrize("name", ["", ".", "x" * 300, "a\0b", "no/such/folder/x.py"])
def test_what_is_no_file_is_refused(name):
    assert "no such sweep file" in problem(load_sweep, name)


def test_a_folder_is_no_sweep_file(tmp_path):
    assert "no such sweep file" in problem(load_sweep, str(tmp_path))


def test_a_syntax_error_is_told_with_file_and_line(file):
    path = file("x = 1\ny = = 2\n")
    assert problem(load_sweep, path) == f"{path}, line 2: invalid syntax: y = = 2"


def test_an_exception_is_told_with_its_line(file):
    path = file("x = 1\n\nx / 0\n")
    assert problem(load_sweep, path) == f"{path}, line 3: ZeroDivisionError: division by zero"


def test_a_missing_import_is_told_with_its_line(file):
    path = file("x = 1\nimport no_such_lab\n")
    assert problem(load_sweep, path) == f"{path}, line 2: ModuleNotFoundError: No module named 'no_such_lab'"


def test_an_exception_in_a_called_function_is_told_with_a_line_of_the_file(file):
    path = file("import json\n\n\njson.loads('{')\n")
    assert problem(load_sweep, path).startswith(f"{path}, line 4: JSONDecodeError: ")


def test_a_file_that_exits_is_told_too(file):
    path = file("x = 1\nraise SystemExit(3)\n")
    assert problem(load_sweep, path).startswith(f"{path}, line 2: SystemExit")


@pytest.mark.parametrize("text", ["", "SWEEP = 3\n", "sweep = None\n", "SWEEP = {'name': 'x'}\n"])
def test_a_file_without_a_sweep_is_refused(file, text):
    path = file(text)
    assert problem(load_sweep, path).startswith(f"{path}: has no SWEEP = Sweep(...)")


@pytest.mark.parametrize("content", [b"x = '\xe9'\n", b"\xff\xfe", b"x = 1\0\n"])
def test_a_file_that_is_no_text_is_refused(tmp_path, content):
    path = tmp_path / "binary.py"
    path.write_bytes(content)
    assert problem(load_sweep, str(path)).startswith(str(path))


def test_problems_of_a_file_are_told_together_with_its_name(file):
    path = file("from memsweep import Sweep\nSWEEP = Sweep('q', {'model.witdh': 1}, axes={'model.depth': ()})\n")
    assert problems(load_sweep, path) == (
        f"{path}: 'model.witdh' is no field of a trial. Did you mean 'model.width'?",
        f"{path}: axis 'model.depth' is empty: give it at least one value.",
    )


SEVERAL = """\
    from memsweep import Sweep
    FEW = Sweep("few", seeds=range(2))
    MANY = Sweep("many", seeds=range(9))
    AGAIN = FEW
"""


def test_a_file_may_hold_several_sweeps(file):
    path = file(SEVERAL)
    assert [sweep.name for sweep in load_sweeps(path).values()] == ["few", "many"]
    assert load_sweep(f"{path}:MANY").name == "many"
    assert problem(load_sweep, path) == f"{path}: defines FEW, MANY: name one of them, such as {path}:FEW."
    assert problem(load_sweep, f"{path}:MAYN") == f"{path}: has no MAYN = Sweep(...); it has FEW, MANY, AGAIN."


def test_sweep_is_the_one_of_a_file_that_has_it(file):
    path = file(SEVERAL + "    SWEEP = MANY\n")
    assert list(load_sweeps(path)) == ["SWEEP"] and load_sweep(path).name == "many"


def test_a_field_that_a_file_gives_twice_is_refused(file):
    """Python keeps the last of equal keys."""
    path = file("from memsweep import Sweep\nSWEEP = Sweep('q', axes={'model.width': (8,),\n'model.width': (16,)})\n")
    assert (
        problem(load_sweep, path) == f"{path}, line 2: 'model.width' is given twice in one {{...}}; keep one of them."
    )


def test_very_many_problems_are_cut_and_counted(file):
    path = file("from memsweep import Sweep\nSWEEP = Sweep('q', axes={'model.width': range(-30, 0)})\n")
    found = problems(load_sweep, path)
    assert len(found) == 21 and found[-1] == f"{path}: ... and 10 more."


def test_replicates_have_the_names_that_each_has_alone():
    for fields in (
        {},
        {"seeds.init": 7},
        {f"seeds.{stream}": 7 for stream in STREAMS[1:]},
        {"own.text": str(3 * LIMIT)},
    ):
        base = {"optimizer.name": "my_lab:Rule", **fields}
        trials = list(Sweep("named", base, axes={"model.width": (4, 8)}, seeds=(0, 5, 2**62)))
        alone = [trial.with_fields({}) for trial in trials]  # new objects, which are named one by one
        for name in ("trial_id", "setting_id", "imports", "seed"):
            assert [getattr(trial, name) for trial in trials] == [getattr(trial, name) for trial in alone]
        assert trials == alone and len({trial.setting_id for trial in trials}) == 2
