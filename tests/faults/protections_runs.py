"""What protects a run, taken out."""

from mutations import Mutation

STOPS, FOLDERS, RANKS = (f"tests/faults/test_{name}.py::test_" for name in ("stops", "folders", "ranks"))
STOPPED = f"{STOPS}a_run_that_is_stopped_at_any_step_ends_the_same[smart-1-2-True-bf16]"
DAMAGED = f"{FOLDERS}any_damage_to_any_part_is_named_and_the_checkpoint_before_is_taken"
REFUSED = f"{FOLDERS}another_configuration_or_other_data_is_refused_with_the_difference_unless_allowed"

PROTECTIONS = (
    Mutation(
        "trainer.py",
        'restore_optimizer(self.optimizer, found.parts["optimizer"], found.state["groups"])',
        "pass",
        "R2: the optimizer's state is not taken up",
        (STOPPED,),
    ),
    Mutation(
        "trainer.py",
        'self.schedule.load_state_dict({**self.schedule.state_dict(), **found.state["schedule"]})',
        "pass",
        "R2: the schedule begins anew",
        (STOPPED,),
    ),
    Mutation(
        "trainer.py",
        "[self.progress.position :]",
        "[0:]",
        "R2: the epoch begins anew",
        (STOPPED,),
    ),
    Mutation(
        "tracking.py",
        "purge_step=step)",
        "purge_step=step + 1)",
        "R2: events of the last step stay",
        (f"{STOPS}events_stand_once_a_step_wherever_the_run_is_stopped",),
    ),
    Mutation(
        "files.py",
        "if sha256(file) != expected:",
        "if not expected:",
        "R3: a part's content is not looked at",
        (DAMAGED, f"{FOLDERS}a_damaged_model_of_an_earlier_stage_is_refused"),
    ),
    Mutation(
        "files.py",
        "if not is_file(file):",
        "if not folder.is_dir():",
        "R3: a missing part is not noticed",
        (DAMAGED,),
    ),
    Mutation(
        "files.py",
        "if free < num_bytes:",
        "if free < 0:",
        "R4: the disk's room is not looked at first",
        (f"{FOLDERS}a_run_that_the_disk_has_no_room_for_does_not_begin",),
    ),
    Mutation(
        "checkpoint.py",
        "staged.rename(final)\n",
        "shutil.rmtree(folder, ignore_errors=True)\n            staged.rename(final)\n",
        "R4: the checkpoint before is deleted first",
        (f"{FOLDERS}a_full_disk_leaves_the_checkpoint_before_as_it_was",),
    ),
    Mutation(
        "trainer.py",
        "if stopped or self.passed(",
        "if self.passed(",
        "R5: the step is not saved after a signal",
        (f"{STOPS}a_signal_ends_the_step_saves_and_says_how_to_go_on",),
    ),
    Mutation(
        "interruptions.py",
        "os.kill(os.getpid(), number)",
        "return",
        "R5: a second signal is ignored",
        (f"{FOLDERS}a_second_signal_ends_at_once_and_nothing_is_corrupt",),
    ),
    Mutation(
        "runner.py",
        "process.terminate()",
        "process.is_alive()",
        "R5: processes side by side are not told",
        (f"{FOLDERS}a_signal_ends_runs_side_by_side_too",),
    ),
    Mutation(
        "files.py",
        "lock.acquire()",
        "lock.is_locked",
        "R6: a second run is let in",
        (f"{FOLDERS}a_second_run_in_the_folder_is_refused_at_once_and_a_stale_lock_does_not_block",),
    ),
    Mutation(
        "cell_folder.py",
        "if refused := [each for each in changed if",
        "if refused := [each for each in changed[:0] if",
        "R7: a half-done cell goes on with another configuration",
        (REFUSED,),
    ),
    Mutation(
        "cell_folder.py",
        " if not each.is_one_of(self.allowed)]:",
        "]:",
        "R7: a change that was allowed by name is refused",
        (REFUSED,),
    ),
    Mutation(
        "experiment.py",
        "        self.check_folders(chosen)\n",
        "",
        "R7: cells that have not begun are trained beside work of another configuration",
        (f"{FOLDERS}nothing_is_trained_beside_work_of_another_configuration",),
    ),
    Mutation(
        "trainer.py",
        "if torch.isfinite(norm):",
        "if not torch.isnan(norm) or True:",
        "R8: a gradient that is not finite is applied",
        (f"{STOPS}a_loss_that_is_not_finite_stops_there_and_the_state_before_is_kept",),
    ),
    Mutation(
        "trainer.py",
        "len(self.progress.skipped) >= self.options.max_skipped",
        "len(self.progress.skipped) > 99",
        "R8: skipping is not bounded",
        (f"{STOPS}steps_that_are_not_finite_are_skipped_counted_and_bounded",),
    ),
    Mutation(
        "distributed.py",
        "items[self.rank :: self.count]",
        "items[self.rank :]",
        "P1: a unit is trained on by two processes",
        (f"{RANKS}two_processes_give_the_losses_and_weights_of_one[float64-1e-09]",),
    ),
    Mutation(
        "distributed.py",
        "weight.grad = total.view_as(weight)",
        "weight.grad = weight.grad",
        "P1: gradients are not summed",
        (f"{RANKS}two_processes_give_the_losses_and_weights_of_one[float64-1e-09]",),
    ),
    Mutation(
        "trainer.py",
        "stopped = self.ranks.any(interruptions.received is not None)",
        "stopped = interruptions.received is not None",
        "P1: a signal to one process is not the others'",
        (f"{RANKS}a_signal_to_one_rank_ends_both_at_a_saved_step",),
    ),
    Mutation(
        "distributed.py",
        "state.destroy_process_group()",
        "pass",
        "P1: processes do not part before they end",
        (f"{RANKS}processes_end_well_right_after_their_last_exchange",),
    ),
    Mutation(
        "cli/main.py",
        "sys.exit(error.exit_code)",
        "sys.exit(1)",
        "Q1: every error has the same exit code",
        ("tests/faults/test_exit_codes.py::test_a_fault_in_a_run_is_one_message_with_its_code_and_no_traceback",),
    ),
    Mutation(
        "crash.py",
        '"error": type(error).__name__,',
        '"error": repr(error),',
        "Q1: a crash report holds data",
        ("tests/faults/test_exit_codes.py::test_a_fault_of_our_own_leaves_a_report_without_data",),
    ),
)
