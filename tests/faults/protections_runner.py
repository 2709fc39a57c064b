"""What makes a run that was killed end as the one that was not, taken out."""

from mutations import Mutation

KILLED = "tests/faults/test_runner_kills.py::test_a_run_that_is_killed_again_and_again_ends_as_the_one_that_is_not"
KILLS, KILLS_OF_TWO = (f"{KILLED}[one-process]",), (f"{KILLED}[two-jobs]",)

PROTECTIONS = (
    Mutation(
        file="training_state.py",
        old='self.losses.take_up(found.state["losses"])',
        new="self.losses.clear()",
        change="R1: the losses of the epoch that was cut are forgotten",
        tests=KILLS,
    ),
    Mutation(
        file="training_state.py",
        old='restore_optimizer(self.optimizer, found.parts["optimizer"], found.state["groups"])',
        new="pass",
        change="R1: the optimizer begins anew",
        tests=KILLS,
    ),
    Mutation(
        file="cell_run.py",
        old="tokenizer_of(self.config.encoder).save_pretrained(staged)",
        new="self.data.tokenizer.save_pretrained(staged)",
        change="R1: a model's tokenizer is saved as the last call left it, which is another one after a new start",
        tests=KILLS_OF_TWO,
    ),
)
