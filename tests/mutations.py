"""Single changes of the numerics that a test must notice; :mod:`mutate` makes them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

METHODS = "tests/test_methods_reference.py::test_"
SMART = "tests/test_smart_reference.py::test_"
REGULARIZERS = "tests/regularizers/test_regularizers.py"
DISTILLED = "tests/regularizers/test_distillation.py::test_"
OBJECTIVES = "tests/objectives/test_objectives.py"
HEADS = "tests/heads/test_heads.py"
DIVERGENCES = "tests/test_divergences.py"
OPTION_A = f"{METHODS}smart_option_a_equals_the_reference"
OPTION_B = f"{METHODS}smart_option_b_equals_the_reference"
OFFICIAL_04 = f"{METHODS}the_preset_official_2020_04_equals_the_reference"
OFFICIAL_LATER = f"{METHODS}the_later_official_presets_equal_the_reference"


@dataclass(frozen=True)
class Mutation:
    """One change.

    :param file: below mtdnn/.
    :param old: text that occurs there exactly once.
    :param change: what becomes of the method, in words.
    :param tests: node ids or files that should notice, the fastest first.
    :param survives: why no test can notice; empty where one must.
    """

    file: str
    old: str
    new: str
    change: str
    tests: tuple[str, ...]
    survives: str = ""

    def mutated(self, root: Path) -> str:
        """The changed text of the file; ValueError when it is not one single change of it."""
        text = (root / "mtdnn" / self.file).read_text()
        if (count := text.count(self.old)) != 1:
            raise ValueError(f"mtdnn/{self.file}: {self.old!r} should occur once and occurs {count} times")
        return text.replace(self.old, self.new)


def changes(file: str, tests: Sequence[str], *entries: tuple[str, ...]) -> Iterator[Mutation]:
    """Mutations of one file: (old, new, what changes), then the tests where they are not ``tests``."""
    for old, new, change, *own in entries:
        yield Mutation(file, old, new, change, tuple(own) or tuple(tests))


DIVERGENCE = changes(
    "divergences.py",
    [DIVERGENCES],
    ('"kl": kl,', '"kl": lambda a_UK, b_UK: kl(b_UK, a_UK),', "KL is reversed"),
    ("- step)\n", "- 2 * step)\n", "KL's correction counts the slope twice"),
    ("* (torch.expm1(step.clamp(max=1.0)) - step)", "* -step", "KL sums terms of both signs, which float32 cannot"),
    ("* (1.0 + step)", "* (1.0 - step)", "KL has the wrong sign where q is far above p"),
    ("step.clamp(max=1.0)", "step", "KL overflows where q is far above p"),
    ("* (a_UK - b_UK)\n", "* (a_UK - b_UK) * 0.5\n", "the symmetric KL is halved"),
    ("return (a_UK.exp() - b_UK.exp()) * (a_UK", "return a_UK.exp() * (a_UK", "the symmetric KL has one side"),
    ("b_UK).sum(-1)", "b_UK).sum(0)", "the divergence is summed over the units"),
    ("b_UK).sum(-1)", "b_UK).mean(-1)", "the divergence is averaged over the outcomes"),
    ("F.log_softmax(logits_UK, dim=-1)", "F.log_softmax(logits_UK, dim=0)", "the softmax is over the units"),
    ("/ counts_U.clamp_min(1.0)", "", "a unit's several distributions are summed"),
    (
        "return a.by_unit(TERMS[form](a_UK, b_UK).sum(-1))",
        "return TERMS[form](a_UK, b_UK).sum(-1)",
        "units are not told apart",
    ),
    ("return 0.5 * (kl(", "return (kl(", "Jensen-Shannon is not halved"),
    ("torch.tensor(2.0", "torch.tensor(1.0", "Jensen-Shannon's mixture is the sum of both"),
    ("kl(a_UK, mixture_UK)", "kl(mixture_UK, a_UK)", "one KL of Jensen-Shannon is reversed"),
    ("+ kl(b_UK, mixture_UK)", "+ kl(a_UK, mixture_UK)", "Jensen-Shannon has one side"),
    ("b_UK.exp()).square()", "b_UK.exp()).abs()", "the difference of probabilities is not squared"),
    ("return (a_UK.exp() - b_UK.exp()).square()", "return (a_UK - b_UK).square()", "log-probabilities are squared"),
    (
        "(a.values_U - b.values_U).square()",
        "(a.values_U - b.values_U).abs()",
        "the difference of scores is not squared",
    ),
    ("else values.float()", "else values", "bf16 logits are compared in bf16"),
    ("if a.values_U.shape != b", "if False and a.values_U.shape != b", "scores of different shapes are broadcast"),
    ("        if valid_UK is not None:", "        if False:", "the softmax counts places that are not there"),
    (
        "reference.detach() if stop_gradient ==",
        "reference if stop_gradient ==",
        "the reference's detach is dropped",
        f"{SMART}stopped_gradients_are_the_references",
    ),
    (
        "_values(reference.detach(), other",
        "_values(reference, other",
        "the first target's detach is dropped",
        f"{SMART}stopped_gradients_are_the_references",
    ),
    (
        "_values(other.detach(), reference",
        "_values(other, reference.detach()",
        "the second target is the wrong side",
        f"{SMART}stopped_gradients_are_the_references",
    ),
    (
        "log_probs_UK=None if self.log_probs_UK is None else self.log_probs_UK.detach()",
        "log_probs_UK=self.log_probs_UK",
        "detach leaves the log-probabilities their graph",
        f"{SMART}stopped_gradients_are_the_references",
    ),
)

PERTURBATION = changes(
    "perturbation.py",
    [REGULARIZERS, OPTION_A],
    ("dim=(1, 2), keepdim=True)", "dim=-1, keepdim=True)", "a row's norm is one of each token"),
    ("dim=(1, 2), keepdim=True)", "dim=(0, 1, 2), keepdim=True)", "a row's norm is the batch's"),
    ("size_N11.masked_fill(size_N11 == 0, 1.0)", "size_N11.amax()", "a step is normalised by the batch's largest"),
    ("largest_N11.masked_fill(largest_N11 == 0, 1.0)", "1.0", "a step underflows where gradients are tiny"),
    (
        "return gradient_NTD.sign()",
        "return unit_step(gradient_NTD, norm)",
        "the steepest step of the maximum norm is g",
    ),
    (
        "    if norm == 2:\n        return unit_step(",
        "    if False:\n        return unit_step(",
        "the 2-norm's step is the 1-norm's",
    ),
    ("flat_NM.abs().argmax(1", "flat_NM.argmax(1", "the steepest step of the 1-norm overlooks negative slopes"),
    ("largest_N1).sign()", "largest_N1).abs().sign()", "the steepest step of the 1-norm always adds"),
    (", -radius_N11)", ", -2 * radius_N11)", "the maximum norm's ball is wider below"),
    ("tiny)).clamp_max(1.0)", "tiny))", "the 2-norm's projection moves the inside to the sphere"),
    ("row_norm(delta_NTD, 2)", 'row_norm(delta_NTD, "inf")', "the 2-norm's projection measures the maximum"),
    ("descending=True", "descending=False", "the 1-norm's threshold sorts upwards"),
    ("torch.arange(1, flat_NM.shape[1] + 1", "torch.arange(0, flat_NM.shape[1]", "the 1-norm's ranks start at 0"),
    ("last_N1 - 1)", "last_N1 - 2)", "the 1-norm's threshold is off by one"),
    (" / last_N1).clamp_min(0.0)", " / last_N1)", "the 1-norm's projection moves the inside outwards"),
    ("- threshold_N1).clamp_min(0.0)", "- threshold_N1)", "the 1-norm's small entries change their sign"),
    ("delta_NTD.sign() * (flat_NM", "(flat_NM", "the 1-norm's projection loses the signs"),
    ("values_NTD.square() * real_NT1", "values_NTD.square()", "the RMS counts padding"),
    (" * values_NTD.shape[-1])).sqrt()", ")).sqrt()", "the RMS is not divided by the width"),
    (".shape[-1])).sqrt()", ".shape[-1]))", "the RMS has no root"),
    (
        "(0, 2, delta_NTD.shape",
        "(1, 2, delta_NTD.shape",
        "the random change that a gain is over is the ascent's own",
        "tests/test_methods.py::test_diagnostics_show_what_the_ascent_gains_and_how_large_the_change_is",
    ),
)

PERTURBING = changes(
    "regularizers/perturbing.py",
    [OPTION_A],
    ("return gradient_NTD.detach()", "return -gradient_NTD.detach()", "ascent is descent"),
    ("found, rng).mean()", "found, rng).sum()", "the penalty is a sum over units"),
    ("found, rng).mean()", "found, rng).max()", "the penalty is the worst unit's"),
    (
        "return self.weight * self.values(",
        "return self.values(",
        "the weight is dropped",
        f"{METHODS}r3f_equals_the_reference",
    ),
    (
        "return self.weight * self.values(",
        "return self.weight**2 * self.values(",
        "the weight is squared",
        f"{METHODS}rapt_equals_the_reference",
    ),
    ("model.outputs(reference, batch),", "model.outputs(moved, batch),", "the penalty is the output's with itself"),
    (
        "            model.outputs(reference, batch),\n            model.outputs(moved, batch),\n",
        "            model.outputs(moved, batch),\n            model.outputs(reference, batch),\n",
        "the penalty's KL is reversed",
    ),
    ("form=self.divergence,", 'form="symmetric_kl",', "the form of the divergence is ignored"),
    ("stop_gradient=self.stop_gradient,", "", "stop_gradient is ignored"),
    ("detach=self.detach_embeddings,", "", "detach_embeddings is ignored", OFFICIAL_04),
    (
        "dropout=self.dropout,",
        'dropout="independent",',
        "the perturbed pass draws masks of its own",
        f"{REGULARIZERS}::test_the_penalty_at_a_perturbation_of_zero_is_exactly_zero",
    ),
    (
        "dropout=self.dropout,",
        'dropout="replay",',
        "the perturbed pass replays masks whatever is asked",
        f"{REGULARIZERS}::test_independent_dropout_alone_makes_a_penalty",
    ),
    (
        'if self.dropout == "off":',
        "if False:",
        "the clean side keeps its dropout where it should be off",
        f"{REGULARIZERS}::test_the_penalty_at_a_perturbation_of_zero_is_exactly_zero",
    ),
    (
        "not clean.autocast\n",
        "True\n",
        "the ascent's reference is bf16's",
        f"{REGULARIZERS}::test_the_direction_under_bf16_training_is_float64s",
    ),
    (
        'as_wide and self.dropout != "off"',
        "as_wide",
        "the ascent's reference has dropout where it should be off",
        f"{REGULARIZERS}::test_without_dropout_the_search_and_the_penalty_are_those_of_the_model_in_eval",
    ),
    (
        '"off" else "replay"',
        '"off" else "independent"',
        "the ascent's wider reference has masks of its own",
        f"{REGULARIZERS}::test_the_direction_under_bf16_training_is_float64s",
    ),
    (
        "else values.float()",
        "else values",
        "the ascent's states stay in bf16",
        f"{REGULARIZERS}::test_the_change_of_states_that_an_encoder_keeps_in_bf16_is_float32",
    ),
    (
        '"embeddings" if site == TWICE else site',
        "site",
        "the clean side has the embedding block twice",
        f"{REGULARIZERS}::test_the_clean_side_of_the_twice_applied_block_has_it_once",
    ),
    (
        '"penalty": self.weight * value',
        '"penalty": self.weight * random',
        "diagnostics show the penalty of a random change",
        "tests/test_methods.py::test_diagnostics_show_what_the_ascent_gains_and_how_large_the_change_is",
    ),
)

SMART_OWN = changes(
    "regularizers/smart.py",
    [OPTION_A],
    ("delta_NTD + self.step_size * unit_N11", "delta_NTD - self.step_size * unit_N11", "SMART descends"),
    ("delta_NTD + self.step_size * unit_N11", "delta_NTD + unit_N11", "the step has no eta"),
    ("delta_NTD + self.step_size * unit_N11", "delta_NTD + self.step_size", "the step has no scale"),
    ("delta_NTD + self.step_size * unit_N11", "self.step_size * unit_N11", "the step forgets where it was"),
    ("return project(moved_NTD, self.radius * unit_N11, self.norm)", "return moved_NTD", "the projection is dropped"),
    ("self.radius * unit_N11", "self.radius * torch.ones_like(unit_N11)", "the radius has no scale"),
    ("self.radius * unit_N11, self.norm", 'self.radius * unit_N11, "inf"', "the ball is always the maximum norm's"),
    ("step(gradient_NTD, self.norm)", 'step(gradient_NTD, "inf")', "the step is always the maximum norm's"),
    ('if self.ascent == "steepest"', 'if self.ascent != "steepest"', "steepest and projected steps are swapped"),
    ("range(self.num_steps)", "range(self.num_steps + 1)", "there is one step too many"),
    ("range(self.num_steps)", "range(self.num_steps - 1)", "there is one step too few"),
    (
        "delta_NTD = self.noise_std * unit_N11 * noise_NTD",
        "delta_NTD = project(self.noise_std * unit_N11 * noise_NTD, self.radius * unit_N11, self.norm)",
        "the start is projected first",
        f"{SMART}smart_equals_the_reference_in_value_and_gradient",
        OPTION_A,
    ),
    ("self.noise_std * unit_N11 * noise", "unit_N11 * noise", "the start has no sigma"),
    ("self.noise_std * unit_N11 * noise", "self.noise_std * noise", "the start has no scale"),
    ('if self.scale == "rms" else', 'if self.scale != "rms" else', "the scales are swapped"),
    (
        "row_rms(hidden_NTD, batch.mask_NT) if",
        "row_rms(hidden_NTD, torch.ones_like(batch.mask_NT)) if",
        "the scale counts padding",
    ),
    (
        "hidden_NTD = wide(clean.hidden(self.site).detach())",
        "hidden_NTD = wide(clean.hidden(self.site))",
        "the change has a gradient by its scale",
    ),
    (
        "gradient_of(inner, delta_NTD) * mask_NT.unsqueeze(-1)",
        "gradient_of(inner, delta_NTD)",
        "the mask is dropped",
        f"{REGULARIZERS}::test_padding_is_not_moved_even_where_an_encoder_gives_it_a_gradient",
    ),
    (
        "if self.perturb_padding else batch.mask_NT",
        "if not self.perturb_padding else batch.mask_NT",
        "padding is perturbed where it should not be",
        f"{REGULARIZERS}::test_the_search_leaves_no_gradient_and_no_change_at_padding",
    ),
    ("if self.perturb_padding else", "if False else", "padding is never perturbed", OFFICIAL_04),
    (
        'form="kl" if self.inner == "kl" else self.divergence',
        'form="kl"',
        "the ascent always climbs KL",
    ),
    (
        'form="kl" if self.inner == "kl" else self.divergence',
        "form=self.divergence",
        "inner: kl climbs the penalty's divergence",
        OFFICIAL_04,
    ),
    (
        "divergence(reference, outputs, form",
        "divergence(outputs, reference, form",
        "the ascent's KL is reversed",
    ),
    (
        "None if self._ascends_as_trained(clean) else hidden_NTD.dtype",
        "hidden_NTD.dtype",
        "the ascent is in float32 whatever is asked",
        f"{REGULARIZERS}::test_an_ascent_in_the_trainings_precision_runs_no_wider_pass_and_differs_only_where_training_is_narrow",
    ),
    (
        ' == "training" and not half',
        ' == "training"',
        "the ascent is in float16",
        f"{REGULARIZERS}::test_an_ascent_under_fp16_is_in_float32_whatever_is_asked",
    ),
    (
        "own / widest",
        "widest / own",
        "an ascent that loses its way is told to climb higher",
        "tests/test_methods.py::test_diagnostics_say_when_an_ascent_in_bf16_loses_its_way",
    ),
    ('if self.inner == "log_odds":', "if False:", "the official inner loss is not used", OFFICIAL_LATER),
    (
        "largest_NT1 = gradient_NTD.abs().amax(-1,",
        "largest_NT1 = gradient_NTD.abs().amax((1, 2),",
        "the first official step is normalised by row",
        OFFICIAL_04,
    ),
    (
        "return self.step_size * gradient_NTD / largest",
        "return gradient_NTD / largest",
        "the first official step has no eta",
        OFFICIAL_04,
    ),
    ('"detach_embeddings": True,', "", "the first official preset keeps the embeddings' gradient", OFFICIAL_04),
    ('"inner": "kl",', "", "the first official preset climbs its own penalty", OFFICIAL_04),
    (
        "moved_NTD.abs().amax(-1,",
        "moved_NTD.abs().amax((1, 2),",
        "the official step is normalised by row",
        OFFICIAL_LATER,
    ),
    (
        "delta_NTD + step_size * gradient_NTD",
        "delta_NTD - step_size * gradient_NTD",
        "the official step descends",
        OFFICIAL_LATER,
    ),
    (
        "keepdim=True) + OFFICIAL_GUARD)",
        "keepdim=True) + 2 * OFFICIAL_GUARD)",
        "the official step's guard is doubled",
        OFFICIAL_LATER,
    ),
    (
        "1.0 / (p_UK.detach() + OFFICIAL_GUARD)",
        "1.0 / (p_UK + OFFICIAL_GUARD)",
        "the log-odds have a gradient",
        OFFICIAL_LATER,
    ),
    ("- 1.0 + OFFICIAL_GUARD).log()", "- 1.0).log()", "the log-odds' second guard is dropped", OFFICIAL_LATER),
    ("by_unit((2.0 * p_UK", "by_unit((p_UK", "the official inner loss is halved", OFFICIAL_LATER),
    ("(2.0 * p_UK * (", "(2.0 * y_UK * (", "the official inner loss weighs by the clean side", OFFICIAL_LATER),
    (
        "- _log_odds(y_UK))).sum(-1)",
        "- _log_odds(y_UK))).mean(-1)",
        "the official inner loss is a mean over outcomes",
        OFFICIAL_LATER,
    ),
    ('"stop_gradient": "targets", ', "", "the official presets stop no gradient", OFFICIAL_04),
    ('        if self.option == "A":', "        if True:", "option B penalizes option A's divergence", OPTION_B),
    (
        '        if self.option == "B":\n            return lambda',
        "        if False:\n            return lambda",
        "option B climbs option A's divergence",
        OPTION_B,
    ),
)

LINEARIZATION = changes(
    "regularizers/linearization.py",
    [OPTION_B],
    ("- by_unit(along_N, batch)).abs()", "+ by_unit(along_N, batch)).abs()", "the slope is added"),
    ("- by_unit(along_N, batch)).abs()", ").abs()", "the slope is dropped"),
    ("- by_unit(along_N, batch)).abs()", "- by_unit(along_N, batch))", "the absolute value is dropped"),
    ('if gradient_at == "perturbed"', 'if gradient_at != "perturbed"', "the gradient is taken at the other point"),
    ("(at_U.sum(), point", "(at_U.mean(), point", "the gradient is that of the batch's mean"),
    ("gradient_NTD).sum((1, 2))", "gradient_NTD).mean((1, 2))", "the slope is a mean over entries"),
    ("create_graph=True", "create_graph=False, retain_graph=True", "the slope has no gradient of its own"),
    (
        "torch.repeat_interleave(batch.num_rows_U)",
        "torch.arange(len(values_N)) % batch.num_units",
        "rows go to other units",
    ),
    ("moved_U - clean_U -", "moved_U - clean_U.detach() -", "the clean loss is a constant"),
)

BREGMAN = changes(
    "regularizers/bregman.py",
    [f"{SMART}bregman_equals_the_reference_in_value_and_gradient", REGULARIZERS],
    ("multi_avg_fn(self.beta(step))", "multi_avg_fn(1 - self.beta(step))", "the momentum is swapped"),
    ("copy.deepcopy(model).requires_grad_(False)", "model", "the teacher is the student"),
    ("reference = self.teacher.run(", "reference = model.run(", "the divergence is the student's with itself"),
    (
        "return self.weight * values_U.mean()",
        "return values_U.mean()",
        "the weight is dropped",
        f"{REGULARIZERS}::test_bregman_weighs_the_mean_divergence_from_the_teacher_in_the_form_it_is_given",
    ),
    ("values_U.mean()", "values_U.sum()", "the penalty is a sum over units"),
    (
        "divergence(model.outputs(reference, batch), model.outputs(clean.logits, batch), form",
        "divergence(model.outputs(clean.logits, batch), model.outputs(reference, batch), form",
        "KL from the teacher is reversed",
        f"{REGULARIZERS}::test_bregman_weighs_the_mean_divergence_from_the_teacher_in_the_form_it_is_given",
    ),
    (
        ", form=self.form",
        "",
        "the form of the divergence is ignored",
        f"{REGULARIZERS}::test_bregman_weighs_the_mean_divergence_from_the_teacher_in_the_form_it_is_given",
    ),
    (
        "model.outputs(clean.logits, batch)",
        "model.outputs(clean.logits.detach(), batch)",
        "the student has no gradient",
    ),
    (
        "step % self.every == 0",
        "step % self.every == 1",
        "the teacher follows one step late",
        f"{REGULARIZERS}::test_the_teacher_is_the_moving_average_of_the_weights",
    ),
    (
        "step % self.every == 0",
        "True",
        "the teacher follows every step",
        f"{REGULARIZERS}::test_the_teacher_is_the_moving_average_of_the_weights",
    ),
    (
        "10 * (step - 1) < self",
        "10 * step < self",
        "the early momentum ends a step early",
        f"{SMART}the_schedule_of_the_momentum_is_the_references",
    ),
    (
        "10 * (step - 1) < self",
        "10 * (step - 1) <= self",
        "the early momentum lasts to its boundary",
        f"{REGULARIZERS}::test_the_early_momentum_is_for_the_first_tenth_of_the_updates",
    ),
    (
        "momentum = EARLY if",
        "momentum = LATE if",
        "the early momentum is the late one",
        f"{SMART}the_schedule_of_the_momentum_is_the_references",
    ),
    (
        "self.every / (MEMORY * self.num_steps)",
        "1 / (MEMORY * self.num_steps)",
        "the memory is in updates, not in steps",
        f"{SMART}the_default_momentum_is_the_references_and_no_longer_than_a_tenth_of_the_run",
    ),
    (
        "min(momentum, max(0.0,",
        "max(momentum, max(0.0,",
        "the teacher of a short run stays at the start",
        f"{SMART}the_default_momentum_is_the_references_and_no_longer_than_a_tenth_of_the_run",
    ),
    (
        'if self.momentum == "auto"',
        "if True",
        "the mean teacher's momentum is bounded too",
        f"{REGULARIZERS}::test_the_early_momentum_is_for_the_first_tenth_of_the_updates",
    ),
    (
        "range(self.every, self.num_steps + 1, self.every)",
        "range(self.every, self.num_steps, self.every)",
        "the last update is not counted in what is left of the start",
        f"{REGULARIZERS}::test_a_teacher_that_stays_at_the_start_is_doubted_with_the_remedy",
    ),
    ("train(shared and model.training)", "train(model.training)", "the teacher has dropout of its own", REGULARIZERS),
    (
        "replay=clean if shared else None",
        "replay=None",
        "the teacher does not share the student's masks",
        f"{REGULARIZERS}::test_shared_dropout_gives_the_teacher_the_students_masks",
    ),
)

DISTILLATION = changes(
    "regularizers/distillation.py",
    [f"{DISTILLED}distillation_equals_the_reference_in_value_and_gradient"],
    (
        "divergence(soft, self._soft(model, clean.logits, batch)",
        "divergence(self._soft(model, clean.logits, batch), soft",
        "KL is reversed",
    ),
    ("self.temperature**2 * values_U", "self.temperature * values_U", "the loss is scaled by T, not by its square"),
    ("log_probs_UK / temperature", "log_probs_UK * temperature", "the temperature sharpens"),
    (".logsumexp(0) - math.log(len(outputs))", ".mean(0)", "log-probabilities are averaged, not probabilities"),
    ("torch.stack(values).mean(0)", "torch.stack(values).sum(0)", "the teachers' scores are added"),
    (
        "values_U - model.loss(clean.logits, batch)",
        "values_U + model.loss(clean.logits, batch)",
        "the hard loss is added",
    ),
    ("return self.weight * values_U.mean()", "return values_U.mean()", "the weight is dropped"),
    (
        "self._soft(model, clean.logits, batch)",
        "self._soft(model, clean.logits.detach(), batch)",
        "the student has no gradient",
    ),
    (
        "self._soft(each, each.run(batch)",
        "self._soft(each, model.run(batch)",
        "the student is its own teacher",
    ),
    ("if batch.task in each.task_defs]", "][:1]", "only the first teacher is asked"),
    (
        ".requires_grad_(False).eval()",
        ".requires_grad_(False).train()",
        "the teacher is in training mode",
        f"{DISTILLED}a_student_that_answers_as_its_only_teacher_has_no_penalty_whatever_its_dropout",
    ),
    (
        'form: Literal["sum", "mean"] = "sum"',
        'form: Literal["sum", "mean"] = "mean"',
        "the hard loss is taken away by default",
        f"{DISTILLED}distillation_equals_the_reference_in_value_and_gradient",
        f"{DISTILLED}a_student_that_answers_as_its_only_teacher_has_no_penalty_whatever_its_dropout",
    ),
    (
        "if saved and sorted(saved) != sorted(here)",
        "if False",
        "another teacher is taken up",
        f"{DISTILLED}a_changed_teacher_is_other_work_and_is_refused_where_work_is_half_done",
    ),
)

RAPT = changes(
    "regularizers/rapt.py",
    [f"{METHODS}rapt_equals_the_reference"],
    ("self.step_size * self._scaled", "self._scaled", "the change has no eta"),
    ('if self.norm_scope == "example"', 'if self.norm_scope != "example"', "the scopes of the norm are swapped"),
    ("return noise_NTD / largest", "return noise_NTD.sign() / largest", "the noise is its sign"),
    ('divergence = "kl"', 'divergence = "symmetric_kl"', "KL is symmetric"),
    ('stop_gradient = "none"', 'stop_gradient = "reference"', "the clean side has no gradient"),
    (
        ".choice(self.sites)",
        ".choice(self.sites[:1])",
        "the layer is always the first",
        f"{REGULARIZERS}::test_rapt_draws_every_layer_up_to_the_highest_anew_for_each_batch",
    ),
    (
        "range(1, self.max_layer + 1)",
        "range(1, self.max_layer)",
        "the highest layer is left out",
        f"{REGULARIZERS}::test_rapt_draws_every_layer_up_to_the_highest_anew_for_each_batch",
    ),
    (
        'seed_of(rng.at("layer").key)',
        '"layer"',
        "the layer is the same for every batch",
        f"{REGULARIZERS}::test_rapt_draws_every_layer_up_to_the_highest_anew_for_each_batch",
    ),
)

R3F = changes(
    "regularizers/r3f.py",
    [f"{METHODS}r3f_equals_the_reference"],
    ('if self.noise == "normal"', 'if self.noise != "normal"', "normal and uniform noise are swapped"),
    ("self.noise_std * size * noise", "size * noise", "the noise has no sigma"),
    ('divergence = "symmetric_kl"', 'divergence = "kl"', "KL has one side"),
    ('stop_gradient = "none"', 'stop_gradient = "reference"', "the clean side has no gradient"),
    ('if self.scale == "rms"', 'if self.scale != "rms"', "the scales are swapped"),
    (
        "row_rms(hidden_NTD, batch.mask_NT)",
        "row_rms(hidden_NTD, batch.mask_NT).square()",
        "the scale is squared",
        f"{REGULARIZERS}::test_r3f_can_scale_its_noise_by_each_rows_states",
    ),
)

VAT = changes(
    "regularizers/vat.py",
    [f"{METHODS}vat_equals_the_reference"],
    ("range(self.num_steps)", "range(self.num_steps + 1)", "there is one iteration too many"),
    ("self.probe * direction_NTD", "direction_NTD", "the probe is dropped"),
    ("direction_NTD = unit_step(noise_NTD, 2)", "direction_NTD = noise_NTD", "the first direction is no unit"),
    (
        "direction_NTD) * real_NT1, 2)",
        'direction_NTD) * real_NT1, "inf")',
        "the direction's unit is the maximum norm's",
    ),
    ("direction_NTD = unit_step(gradient", "direction_NTD = -unit_step(gradient", "the direction is turned round"),
    (
        "divergence(reference, model.outputs(logits, batch)",
        "divergence(model.outputs(logits, batch), reference",
        "the iteration's KL is reversed",
    ),
    ('form="kl")', 'form="symmetric_kl")', "the iteration's KL is symmetric"),
    ('    divergence = "kl"', '    divergence = "symmetric_kl"', "the penalty's KL is symmetric"),
    ('stop_gradient = "reference"', 'stop_gradient = "none"', "the reference has a gradient"),
    ("self.radius * size_N11", "size_N11", "the radius is dropped"),
    ("row_norm(hidden_NTD * real_NT1, 2)", "row_norm(hidden_NTD, 2)", "the scale counts padding"),
    ('if self.scale == "norm"', 'if self.scale != "norm"', "the scales are swapped"),
    (
        "direction_NTD) * real_NT1, 2)",
        "direction_NTD), 2)",
        "the mask is dropped",
        f"{REGULARIZERS}::test_padding_is_not_moved_even_where_an_encoder_gives_it_a_gradient",
    ),
)

ATTACHED = changes(
    "regularizers/base.py",
    ["tests/test_methods.py::test_a_regularizer_is_switched_by_task_and_step"],
    ("step < self.after_steps", "step <= self.after_steps", "a term begins a step late"),
    ("task not in self.tasks", "task in self.tasks", "a term is used for the other tasks"),
    ("self.task_weights.get(task, 1.0)", "1.0", "a task's weight is dropped"),
)

R_DROP = changes(
    "objectives/r_drop.py",
    [f"{METHODS}r_drop_equals_the_reference"],
    ("(0.5 if one.values_U is None else 1.0)", "1.0", "the half of the KLs is dropped"),
    ("(0.5 if one.values_U is None else 1.0)", "0.5", "the squared difference of scores is halved"),
    ('share = 0.5 if self.form == "repository"', 'share = 0.5 if self.form != "repository"', "the forms are swapped"),
    ('rng.at("second dropout")', 'rng.at("dropout")', "both passes have the same masks"),
    ("+ model.loss(second.logits, batch)", "+ model.loss(first.logits, batch)", "the second loss is the first's"),
    ("self.weight * apart_U", "apart_U", "the weight is dropped"),
    ("divergence(one, other)", "divergence(one.detach(), other)", "the first side has no gradient"),
    ("apart_U).mean()", "apart_U).sum()", "the loss is a sum over units"),
)

STANDARD = changes(
    "objectives/standard.py",
    [f"{OBJECTIVES}::test_r_drop_without_dropout_is_the_plain_loss"],
    (
        ".mean(), clean=clean",
        ".sum(), clean=clean",
        "the loss is a sum over units",
        f"{OBJECTIVES}::test_the_standard_loss_is_the_mean_over_units",
    ),
)

SEEKING = [f"{METHODS}pgd_trains_at_the_references_last_change"]
DIAGNOSED = f"{OBJECTIVES}::test_what_a_label_seeking_objective_says_is_of_the_change_it_trains_at"
LABEL_SEEKING = changes(
    "objectives/label_seeking.py",
    SEEKING,
    ("range(self.num_climbs)", "range(self.num_climbs + 1)", "there is one step too many"),
    ("range(self.num_climbs)", "range(self.num_climbs - 1)", "there is one step too few"),
    ("return self.num_terms - 1", "return self.num_terms", "it is diagnosed a step later than it trains", DIAGNOSED),
    (
        "loss_U = self.losses(model, batch, delta_NTD, masks)",
        'loss_U = self.losses(model, batch, delta_NTD, rng.at("ascent"))',
        "the ascent has masks of its own",
        f"{OBJECTIVES}::test_all_passes_of_pgd_share_one_dropout_mask",
    ),
    (".mean().item() - still", ".mean().item()", "the rise is the loss", DIAGNOSED),
    ("rise / random", "random / rise", "the gain is upside down", DIAGNOSED),
    ("delta_NTD.detach() + self.step_size", "delta_NTD.detach() - self.step_size", "ascent is descent"),
    ("+ self.step_size * gradient_NTD", "+ gradient_NTD", "the step has no alpha"),
    (" / frobenius(gradient_NTD)", "", "the gradient is not normalised"),
    ("values_NTD, dim=(1, 2)", "values_NTD, dim=-1", "the norm is one of each token"),
    ("values_NTD, dim=(1, 2)", "values_NTD, dim=(0, 1, 2)", "the norm is the batch's"),
    (
        "return moved_NTD * (limit / frobenius(moved_NTD)).clamp_max(1.0)",
        "return moved_NTD",
        "the projection is dropped",
    ),
    (
        "frobenius(moved_NTD)).clamp_max(1.0)",
        "frobenius(moved_NTD))",
        "every change is moved to the sphere",
        f"{OBJECTIVES}::test_a_step_inside_the_ball_is_not_moved_and_without_a_ball_none_is",
    ),
    (
        "limit = self.max_norm or math.inf",
        "limit = self.max_norm",
        "no ball is a ball of radius 0",
        f"{OBJECTIVES}::test_a_step_inside_the_ball_is_not_moved_and_without_a_ball_none_is",
    ),
    ("* width).sqrt()", "* width)", "the start's size has no root"),
    ("batch.mask_NT.sum(1).to(dtype) * width", "batch.mask_NT.sum(1).to(dtype)", "the start's size has no width"),
    (
        "batch.mask_NT.sum(1).to(dtype)",
        "batch.mask_NT.shape[1] * torch.ones(len(batch.mask_NT), dtype=dtype)",
        "the start's size counts padding",
    ),
    ('rng.at("delta").uniform_NTD', 'rng.at("delta").normal_NTD', "the start is normal"),
    (
        "gradient_NTD = gradient_NTD * batch.mask_NT.unsqueeze(-1)",
        "pass",
        "the mask is dropped",
        f"{OBJECTIVES}::test_a_step_leaves_padding_alone_even_where_it_has_a_gradient",
    ),
)

PGD = changes(
    "objectives/pgd.py",
    SEEKING,
    ("return self.num_steps", "return self.num_steps + 1", "there is one step too many"),
    ("return self.num_steps", "return self.num_steps - 1", "there is one step too few"),
    (
        "model, batch, delta_NTD, masks).mean())",
        "model, batch, delta_NTD, masks).sum())",
        "the loss is a sum over units",
    ),
)

FREE_AT = changes(
    "objectives/free_at.py",
    [f"{METHODS}free_at_climbs_while_the_weights_move"],
    (
        "        return self.num_steps",
        "        return 1",
        "it says that it has one term",
        f"{OBJECTIVES}::test_an_objective_yields_as_many_finite_losses_as_it_says_and_each_can_train_the_model",
    ),
    (
        "updates_each_term: ClassVar[bool] = True",
        "updates_each_term: ClassVar[bool] = False",
        "one step follows all replays",
    ),
    (
        'rng.at("dropout", replay)',
        'rng.at("dropout")',
        "the replays share their masks",
        f"{OBJECTIVES}::test_the_passes_of_freelb_share_one_dropout_mask_and_those_of_free_at_do_not",
    ),
    (
        "delta_NTD = self.ascended(delta_NTD, gradient_at(delta_NTD), batch)",
        "delta_NTD = self.start(model, batch, rng)",
        "each replay starts anew",
    ),
    ('rng.at("dropout", replay)).mean()', 'rng.at("dropout", replay)).sum()', "the loss is a sum over units"),
)

FREELB = changes(
    "objectives/freelb.py",
    [f"{METHODS}freelb_averages_the_references_gradients"],
    ("share=1.0 / self.num_terms", "share=1.0", "the losses are summed"),
    ("share=1.0 / self.num_terms", "share=1.0 / self.num_steps", "the losses are always shared by K"),
    ('== "1+K"', '== "K"', "the numbers of passes are swapped"),
    ("range(self.num_terms)", "range(self.num_steps)", "there are always K passes"),
    (
        'rng.at("dropout"))',
        'rng.at("dropout", delta_NTD.sum()))',
        "each pass has masks of its own",
        f"{OBJECTIVES}::test_the_passes_of_freelb_share_one_dropout_mask_and_those_of_free_at_do_not",
    ),
    (
        "delta_NTD = self.ascended(delta_NTD, gradient_at(delta_NTD), batch)",
        "delta_NTD = delta_NTD.detach()",
        "nothing is climbed",
    ),
    ("loss_U.mean()", "loss_U.sum()", "the loss is a sum over units"),
)

CLASSIFICATION = changes(
    "heads/classification.py",
    [HEADS],
    ("return F.cross_entropy(", "return -F.cross_entropy(", "the cross-entropy has the wrong sign"),
    ("at_least_float32(logits), batch.targets", "logits, batch.targets", "the loss of bf16 logits is bf16"),
    ("self.output(self.dropout(hidden))", "self.output(hidden)", "the head has no dropout"),
    ("self.output(self.dropout(hidden))", "self.dropout(self.output(hidden))", "dropout comes after the layer"),
    ("logits.argmax(-1).tolist()", "logits.argmin(-1).tolist()", "the prediction is the least likely class"),
    ("row.index(max(row))", "row.index(min(row))", "people are told the least likely class"),
)

LABELS = changes(
    "heads/labels.py",
    [HEADS],
    ("mapping.get(words[0], words[0])", "words[0]", "a fresh head ignores the mapping of labels"),
    (
        "head.output.bias[index] = source.output.bias[other]",
        "head.output.bias[index] = source.output.bias[index]",
        "a fresh head takes another class's bias",
    ),
)

TAGGING = changes(
    "heads/tagging.py",
    ["tests/heads/test_tagging.py", "tests/test_token_reference.py"],
    ("mean_by_unit(loss_R", "batch.num_units * mean_by_unit(loss_R", "the loss grows with the batch"),
    ("return unit_R, word_NT[unit_R, token_R]", "return unit_R, token_R", "labels are taken by token"),
    ("(word_NT >= 0).nonzero", "(word_NT >= -1).nonzero", "special tokens and further pieces are labelled"),
    ("[[OUTSIDE] * len(words)", "[[self.names[1]] * len(words)", "words that are cut off are predicted"),
    ("if texts is not None and len(found)", "if False and len(found)", "labels need not pair up with words"),
)

PIECES = changes(
    "heads/pieces.py",
    ["tests/heads/test_tagging.py", "tests/heads/test_span.py", "tests/heads/test_san.py"],
    ("words[end - 1]", "words[start]", "a piece is its first character's, which may be the space before the word"),
    ("word if word > last else -1", "word", "every piece of a word is labelled"),
    ("if sequence == text and end", "if sequence is not None and end", "the question's tokens are the text's"),
)

SPAN = changes(
    "heads/span.py",
    ["tests/heads/test_span.py", "tests/test_token_reference.py"],
    ("        valid_NT[:, 0] = True\n", "", "the first token is no target"),
    ("logits.permute(2, 0, 1)", "logits.flip(2).permute(2, 0, 1)", "start and end are swapped"),
    ("min(self.stride, room // 2)", "0", "windows share nothing"),
    ("key=lambda row: row[0]", "key=lambda row: -row[0]", "the worst window answers"),
    ("(best.of_first(begins_NT) + best.of_last(stops_NT))", "best.of_first(begins_NT)", "one end alone is probable"),
    ("batch.targets[:, 0][unit_N]", "batch.targets[:, -1][unit_N]", "the last right answer is learned"),
)

SPAN_PLACES = changes(
    "heads/span_places.py",
    ["tests/heads/test_span.py"],
    ("return begin_N * here_N, stop_N * here_N", "return begin_N, stop_N", "windows without the answer have another"),
    (".flip(1).argmax(1)", ".argmax(1)", "an answer ends at its first token's mirror image"),
    ("length = min(max_tokens,", "length = min(max_tokens + 1,", "answers are a token too long"),
    ("& (end_NT >= last_N1)", "& (end_NT >= first_N1)", "an answer that is cut off is learned"),
    ("if texts is not None and (start < 0 or", "if False and (start < 0 or", "wrong offsets are taken"),
    ("len(text) - len(text.lstrip())", "0", "the space before an answer is its"),
)

SAN = changes(
    "heads/san.py",
    ["tests/heads/test_san.py"],
    ("hidden, text_NT == 1)", "hidden, text_NT == 0)", "the state begins as a summary of the first text"),
    ("hidden, text_NT == 0)\n            both", "hidden, text_NT == 1)\n            both", "the second text is read"),
    (
        "state_ND = self.cell(read_ND, state_ND)",
        "state_ND = self.cell(state_ND, read_ND)",
        "input and state change places",
    ),
    ("(state_ND - read_ND).abs()", "state_ND - read_ND", "the difference has a sign"),
    ("kept_NK | ~kept_NK.any(1, keepdim=True)", "kept_NK", "a row may lose all its steps"),
    ("(1 - update) * new + update * state_ND", "update * new + (1 - update) * state_ND", "the gate is turned round"),
    ("torch.sigmoid(reset_in + reset) * new", "new", "nothing is forgotten"),
)

SPAN_METRICS = changes(
    "metrics/spans.py",
    ["tests/metrics/test_spans.py"],
    ('prefix == "I" and name == kind', 'prefix == "I"', "an I of another type continues"),
    ('if prefix in ("B", "I") else', 'if prefix == "B" else', "an I that continues nothing is dropped"),
    ("2 * counts", "counts", "F1 is halved"),
)

ANSWERS = changes(
    "metrics/answers.py",
    ["tests/metrics/test_answers.py"],
    ("answer.lower()", "answer", "case counts"),
    ('ARTICLES.sub(" ", ', "(", "articles count"),
    (".translate(PUNCTUATION)", "", "punctuation counts"),
    ("return 2 * shared", "return shared", "F1 is halved"),
    ("[max(score(", "[min(score(", "the worst right answer counts"),
    ("& Counter(wanted)", "& Counter(set(wanted))", "a word counts once"),
)

REGRESSION = changes(
    "heads/regression.py",
    [HEADS],
    ("- batch.targets).square()", "- batch.targets).abs()", "the error is not squared"),
    ("- batch.targets).square()", "- batch.targets).square() / 2", "the squared error is halved"),
    ("if logits.shape != batch.targets.shape:", "if False:", "scores of the wrong shape are broadcast"),
    ("self.output(self.dropout(hidden))", "self.output(hidden)", "the head has no dropout"),
    ("self.output(self.dropout(hidden))", "self.dropout(self.output(hidden))", "dropout comes after the layer"),
    ("sum(self.score_range) / 2", "sum(self.score_range)", "a fresh head starts at the sum of its range"),
    ("<= score <= self.score_range[1]", "<= score < self.score_range[1]", "the highest score is refused"),
)

RANKING = changes(
    "heads/ranking.py",
    [HEADS],
    ("lowest).log_softmax(-1)", "lowest).log_softmax(0)", "the softmax is over the groups"),
    (
        "scores_UK.masked_fill(~valid_UK, lowest).log_softmax",
        "scores_UK.log_softmax",
        "the softmax counts places that are not there",
    ),
    (
        "log_p_UK.masked_fill(~right_UK, lowest).logsumexp",
        "log_p_UK.masked_fill(right_UK, lowest).logsumexp",
        "right and wrong answers are swapped",
    ),
    (
        "loss_U = -log_p_UK.masked_fill(~right_UK, lowest).logsumexp(-1)",
        "loss_U = -log_p_UK.masked_fill(~right_UK, lowest).amax(-1)",
        "only the best right answer counts",
    ),
    ('if self.loss_form == "marginal"', 'if self.loss_form != "marginal"', "the forms of the loss are swapped"),
    (" / right_UK.sum(-1).clamp_min(1)", "", "the mean over right answers is a sum"),
    ("right_UK | ~valid_UK, lowest", "~valid_UK, lowest", "right answers compete with each other"),
    ("right_UK | ~valid_UK, lowest", "right_UK, lowest", "places that are not there compete"),
    ("torch.logaddexp(scores_UK, rivals_U1)", "rivals_U1", "the right answer does not stand in its own softmax"),
    ("right_UK.any(-1) & (valid_UK & ~right_UK).any(-1)", "right_UK.any(-1)", "groups without a wrong answer count"),
    (
        "right_UK.any(-1) & (valid_UK & ~right_UK).any(-1)",
        "(valid_UK & ~right_UK).any(-1)",
        "groups without a right answer count",
    ),
    (
        "Outputs.categorical(*by_group(logits, batch))",
        "Outputs.categorical(by_group(logits, batch)[0])",
        "the outputs do not say which places are real",
    ),
    ("self.output(self.dropout(hidden))", "self.output(hidden)", "the head has no dropout"),
    ("self.output(self.dropout(hidden))", "self.dropout(self.output(hidden))", "dropout comes after the layer"),
    (
        "self.groups.max_candidates - len(right)",
        "self.groups.max_candidates",
        "a large group keeps too many candidates",
    ),
    (
        "return any(targets) and not all(targets)",
        "return any(targets)",
        "groups that cannot have a gradient are trained on",
    ),
    ("int(scores.argmax())", "int(scores.argmin())", "people are told the worst candidate"),
)

TRAINER_METHODS = "tests/test_methods.py::test_shares_of_a_step_are_weighted_by_task"
TRAINER = changes(
    "train_plan.py",
    [TRAINER_METHODS],
    (
        " / units[batch.task] / len(units)",
        " / units[batch.task] / len(self.batches)",
        "tasks are shared by micro-batch",
    ),
    ("self.weights.get(batch.task, 1.0) *", "1.0 *", "the tasks' weights are dropped"),
    (
        "units[batch.task] += batch.num_units",
        "units[batch.task] = batch.num_units",
        "a share is of the task's last batch",
    ),
    (
        "-(-self.options.min_updates // self._num_steps(",
        "(self.options.min_updates // self._num_steps(",
        "min_updates is rounded down",
        "tests/test_trainer.py::test_min_updates_raise_the_number_of_epochs",
    ),
    (
        "// self.turn_size)) * self.updates",
        "// self.turn_size))",
        "FreeAT's updates are counted once",
        "tests/test_trainer.py::test_free_at_updates_after_every_replay_and_takes_fewer_epochs",
    ),
)

MUTATIONS = [
    *DIVERGENCE,
    *PERTURBATION,
    *PERTURBING,
    *SMART_OWN,
    *LINEARIZATION,
    *BREGMAN,
    *DISTILLATION,
    *RAPT,
    *R3F,
    *VAT,
    *ATTACHED,
    *R_DROP,
    *STANDARD,
    *LABEL_SEEKING,
    *PGD,
    *FREE_AT,
    *FREELB,
    *CLASSIFICATION,
    *LABELS,
    *TAGGING,
    *PIECES,
    *SPAN,
    *SPAN_PLACES,
    *SAN,
    *SPAN_METRICS,
    *ANSWERS,
    *REGRESSION,
    *RANKING,
    *TRAINER,
]
