"""What a pack reports and when: measurements, ends, batches, rates, counts, regularizers."""

import numpy as np
import pytest
import torch

from memsweep.data.form import Form
from memsweep.engine.nn import regularizers
from memsweep.engine.train import metrics, step, streams, trainer
from memsweep.spec.schema import Status
from tests.cases import trial


def begun(*trials):
    program = trainer.compose(trials)
    return program, trainer.init(program, trials)


def to_the_end(program, state):
    """All measurements, in order, with the steps at which they were made."""
    found = []
    while len(state.members):
        state, measured = trainer.advance(program, state, trainer.steps_to_measurement(state))
        found.append((state, measured))
        state = trainer.select(state, measured.active)
    return found


def test_measures_at_the_end_of_every_epoch_and_ends_with_the_budget():
    found = to_the_end(*begun(trial(data__examples=50, optimizer__epochs=4)))  # 2.5 steps an epoch
    assert [int(measured.step[0]) for _, measured in found] == [3, 5, 8, 10]
    assert [measured.status[0] for _, measured in found] == [None, None, None, Status.FINISHED]


def test_a_member_that_fits_leaves_at_that_measurement():
    easy = trial("momentum", data__examples=20, data__noise_fraction=0.0, optimizer__epochs=500, stop__fit=1.0)
    last = to_the_end(*begun(easy))[-1][1]
    assert last.fitted[0] and last.status[0] is Status.FINISHED
    assert last.step[0] < easy.budget
    assert last.counts["train_correct_count"][0] == 20


def test_a_member_that_diverges_leaves_and_the_others_go_on():
    wild, calm = trial("decay", seed=1, optimizer__learning_rate=1e12), trial("decay", seed=2)
    found = to_the_end(*begun(wild, calm))
    assert found[0][1].status == (Status.DIVERGED, None)
    assert found[-1][1].status == (Status.FINISHED,)


def test_every_epoch_reads_every_example_once():
    program, state = begun(trial(data__examples=50), trial(data__examples=90, seed=1))
    index = trainer.batches(program, state, 90)
    for m, examples in enumerate((50, 90)):
        read = index[:, m].flatten()[: examples * 4].view(4, examples)
        assert torch.equal(read.sort(1).values, torch.arange(examples).expand(4, examples))
        assert not torch.equal(read[0], read[1])


def test_batches_do_not_depend_on_the_device(device):
    trials = [trial(data__examples=33), trial(data__examples=90, seed=1)]
    program = trainer.compose(trials, device)
    mine = trainer.batches(program, trainer.init(program, trials), 30)
    assert mine.device.type == device
    assert torch.equal(mine.cpu(), trainer.batches(*begun(*trials), 30))


def test_batches_do_not_depend_on_how_they_are_asked_for():
    program, state = begun(trial(data__examples=33), trial(data__examples=90, seed=1))
    whole = trainer.batches(program, state, 7)
    later = trainer.batches(program, state._replace(step=state.step + 3), 4)
    assert torch.equal(whole[3:], later)


def test_labels_are_those_given_to_the_examples_of_each_step():
    program, state = begun(trial(data__examples=33), trial(data__examples=90, seed=1))
    index = trainer.batches(program, state, 7)
    labels = trainer.labels_of(program, state, index)
    for m in range(2):
        assert torch.equal(labels[:, m], state.examples.given[m][index[:, m]])


def test_no_labels_are_looked_up_where_the_targets_are_others():
    program, state = begun(trial("transformer, recall"))
    assert trainer.labels_of(program, state, trainer.batches(program, state, 2)).numel() == 0


def test_a_batch_may_be_larger_than_the_training_set():
    program, state = begun(trial(data__examples=7, optimizer__batch_size=20))
    assert trainer.batches(program, state, 2).shape == (2, 1, 20)
    assert to_the_end(program, state)[-1][1].status == (Status.FINISHED,)


def test_the_schedule_is_counted_in_epochs_of_the_member():
    program, state = begun(
        trial("schedule", data__examples=40), trial("schedule", data__examples=20, seed=1), trial("momentum", seed=2)
    )
    rates = trainer.learning_rates(program, state, 6).double()
    assert rates[:, 0].tolist() == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.05, 0.05])
    assert rates[:, 1].tolist() == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.025, 0.025])
    assert rates[:, 2].tolist() == pytest.approx([0.1] * 6)


def test_counts_tell_memorized_from_recovered():
    given, true = torch.tensor([[0, 1, 2, 2, 0]]), torch.tensor([[0, 1, 1, 1, 0]])
    corrupted = torch.tensor([[False, False, True, True, False]])
    exists = torch.tensor([[True, True, True, True, False]])
    answer = metrics.Evaluation(torch.tensor([[0, 0, 2, 1, 0]]), torch.ones(1, 5), torch.zeros(1, 5))
    counts = {
        name: value.item()
        for name, value in metrics.train_counts(answer, given, true, corrupted, exists)._asdict().items()
    }
    assert counts == {
        "train_correct_count": 2,  # the first, and the memorized third
        "train_count": 4,
        "train_loss_sum_nats": 4.0,
        "clean_correct_count": 1,
        "clean_count": 2,
        "corrupted_correct_count": 1,
        "corrupted_count": 2,
        "memorized_count": 1,
        "recovered_count": 1,
        "label_changed_count": 2,
    }


def test_answers_equal_cross_entropy_and_argmax():
    logits, labels = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0)), torch.arange(18).view(3, 6) % 4
    answer = metrics.answers(Form(outputs=4), logits, labels)
    plain = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(3, 6)
    assert torch.allclose(answer.loss, plain, atol=1e-6)
    assert torch.equal(answer.predicted, logits.argmax(-1))


def test_validation_and_test_examples_are_evaluated_apart():
    state, measured = to_the_end(*begun(trial("momentum", data__validation_examples=30, data__test_examples=50)))[-1]
    module_input = torch.tensor(state.members[0].data.held_out_inputs)
    labels = torch.tensor(state.members[0].data.held_out_labels)
    program = trainer.compose([state.members[0].trial])
    own = {name: value[0] for name, value in state.parameters.items()}
    right = torch.func.functional_call(program.module, own, (module_input,)).argmax(1) == labels
    assert measured.counts["validation_correct_count"][0] == int(right[:30].sum())
    assert measured.test["test_correct_count"][0] == int(right[30:].sum())
    assert measured.test["test_count"][0] == 50


def test_history_tells_when_an_example_was_learned_and_forgotten():
    found = to_the_end(*begun(trial("momentum", optimizer__epochs=12)))
    given = found[0][0].examples.given[0]
    correct = []
    for state, _ in found:
        program = trainer.compose([state.members[0].trial])
        own = {name: value[0] for name, value in state.parameters.items()}
        inputs = torch.tensor(state.members[0].data.inputs)
        correct.append(state.history.correct[0].numpy().copy())
    correct = np.array(correct)
    steps = np.array([int(measured.step[0]) for _, measured in found])
    last = found[-1][0].history
    learned = np.where(correct.any(0), steps[correct.argmax(0)], -1)
    assert last.learned[0].tolist() == learned.tolist()
    assert last.forgotten[0].tolist() == (correct[:-1] & ~correct[1:]).sum(0).tolist()
    final = torch.func.functional_call(program.module, own, (inputs,)).argmax(1) == given
    assert torch.equal(torch.tensor(correct[-1]), final)


def test_dropout_and_noise_have_their_strengths():
    keys = torch.arange(200) * 7919 + 12345
    place = regularizers.perturbation(keys, torch.full((200,), 0.5), torch.full((200,), 0.25), (10, 40), torch.float32)
    assert (place["scale"] == 0).float().mean().item() == pytest.approx(0.25, abs=0.005)
    assert place["scale"].max().item() == pytest.approx(1 / 0.75)
    assert place["shift"].std().item() == pytest.approx(0.5, abs=0.005)
    assert abs(place["shift"].mean().item()) < 0.01


def test_noise_and_masks_change_from_step_to_step_and_layer_to_layer():
    program, state = begun(trial("all at once"))
    keys = [streams.subkeys(state.noise_keys, step_) for step_ in (0, 1)]
    masks = [
        step._perturbation(program, state, k, place, ("hidden_noise", "dropout"), (20, 8))
        for k in keys
        for place in (1, 2)
    ]
    assert len({tuple(mask["scale"].flatten().tolist()) for mask in masks}) == 4


def test_evaluation_uses_no_regularizer():
    noisy = trial("dropout", regularization__dropout=0.9, optimizer__learning_rate=0.0, stop__steps=5)
    clean = trial("sgd", optimizer__learning_rate=0.0, stop__steps=5)
    ends = [to_the_end(*begun(t))[-1][1].counts for t in (noisy, clean)]
    assert ends[0]["train_loss_sum_nats"] == ends[1]["train_loss_sum_nats"]


def test_products_are_as_precise_as_the_trial_says():
    for matmul in ("medium", "highest"):
        program, state = begun(trial(compute__matmul=matmul))
        trainer.advance(program, state, 1)
        assert torch.get_float32_matmul_precision() == matmul
        assert torch.backends.cudnn.allow_tf32 == (matmul == "medium")


def test_a_users_module_trains_by_import_path():
    own = {"model__family": "tests.test_trainer:UsersNet"}
    last = to_the_end(*begun(*(trial("momentum", seed=seed, **own) for seed in range(3))))[-1][1]
    assert last.status == (Status.FINISHED,) * 3


def test_a_users_module_without_hidden_refuses_dropout():
    from memsweep.spec.config import ConfigError

    with pytest.raises(ConfigError, match="needs forward\\(inputs, hidden\\)"):
        begun(trial("dropout", model__family="tests.test_trainer:UsersNet"))


class UsersNet(torch.nn.Module):
    """A network that knows nothing of memsweep."""

    def __init__(self, model, input_dim, classes):
        super().__init__()
        self.out = torch.nn.Linear(input_dim, classes)

    def forward(self, inputs):
        return self.out(inputs)
