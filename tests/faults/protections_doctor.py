"""What protects against the faults of memory, of foreign code and of markup."""

from mutations import Mutation

PICKLES = "tests/faults/test_pickles.py::test_"
REMOTE = "tests/faults/test_remote_code.py::test_"
MARKUP = "tests/faults/test_markup.py::test_"
MEMORY = "tests/faults/test_out_of_memory.py::test_"
RAN_OUT = f"{MEMORY}a_run_that_gets_no_more_memory_ends_with_its_own_error_and_goes_on_with_less"
BEFOREHAND = f"{MEMORY}the_doctor_says_beforehand_what_does_not_fit_and_its_proposals_do"

PROTECTIONS = (
    Mutation(
        "encoder.py",
        "KeyError, pickle.UnpicklingError, SafetensorError)",
        "KeyError)",
        "S1: weights that hold code are no error of ours",
        (f"{PICKLES}a_pickle_as_the_weights_of_an_encoder_is_refused",),
    ),
    Mutation(
        "interop/official_checkpoint.py",
        'map_location="cpu", weights_only=True',
        'map_location="cpu", weights_only=False',
        "S1: an official checkpoint is unpickled",
        (f"{PICKLES}a_pickle_as_an_official_checkpoint_is_refused",),
    ),
    Mutation(
        "checkpoint.py",
        "except UNREADABLE as error:",
        "except KeyError as error:",
        "S1: a checkpoint that holds something else is no error of ours",
        (f"{PICKLES}a_pickle_in_a_checkpoint_is_refused_even_with_the_right_checksum",),
    ),
    Mutation(
        "encoder.py",
        'kwargs["trust_remote_code"] = False',
        'kwargs["trust_remote_code"] = True',
        "S2: an encoder's own code is run",
        (f"{REMOTE}code_of_an_encoder_folder_is_not_run",),
    ),
    Mutation(
        "model.py",
        "from_config(inner, dtype=dtype, trust_remote_code=False)",
        "from_config(inner, dtype=dtype, trust_remote_code=True)",
        "S2: a model's own code is run",
        (f"{REMOTE}code_of_a_model_folder_is_not_run",),
    ),
    Mutation(
        "schema.py",
        'extra="forbid"',
        'extra="ignore"',
        "S2: a key that is not known is passed over",
        (f"{REMOTE}no_file_can_switch_remote_code_on",),
    ),
    Mutation(
        "hub.py",
        "places = [] if hub_answers() else [constants, datasets.config]",
        "places: list = []",
        "S2: a hub that does not answer is asked for data",
        (f"{REMOTE}a_hub_that_is_not_there_is_noticed_at_once",),
    ),
    Mutation(
        "encoder.py",
        "if not Path(folder).exists() and hub_answers():",
        "if not Path(folder).exists():",
        "S2: a hub that does not answer is asked for an encoder",
        (f"{REMOTE}a_hub_that_is_not_there_is_noticed_at_once",),
    ),
    Mutation(
        "report/write.py",
        "autoescape=True",
        "autoescape=False",
        "S5: the page takes markup from data",
        (f"{MARKUP}the_page_holds_no_element_from_data",),
    ),
    Mutation(
        "markdown.py",
        '.replace("<", "&lt;")',
        "",
        "S5: Markdown takes tags from data",
        (f"{MARKUP}markdown_holds_no_tag_link_or_image_from_data",),
    ),
    Mutation(
        "markdown.py",
        r"[\\`*\[\]|~$]",
        r"[\\|~$]",
        "S5: Markdown takes links and images from data",
        (f"{MARKUP}markdown_holds_no_tag_link_or_image_from_data",),
    ),
    Mutation(
        "report/table.py",
        'return f"\'{value}" if formula else value',
        "return value",
        "S5: a cell of a CSV is a formula",
        (f"{MARKUP}no_cell_of_a_csv_is_a_formula",),
    ),
    Mutation(
        "report/table.py",
        'line = "".join(LATEX.get(sign, sign) for sign in',
        'line = "".join(sign for sign in',
        "S5: LaTeX takes commands from data",
        (f"{MARKUP}no_command_of_latex_comes_from_data",),
    ),
    Mutation(
        "trainer.py",
        "yield Step.made(step, here, self.task_weights)",
        'kept = self.__dict__.setdefault("kept", [])\n'
        "                kept.append(Step.made(step, here, self.task_weights))\n"
        "                yield kept[-1]",
        "M1: every batch is kept",
        ("tests/faults/test_memory_growth.py::test_memory_does_not_grow_with_the_steps",),
    ),
    Mutation(
        "memory_probe.py",
        "return best is not None and best.batch_size >= batch_size",
        "return best is not None",
        "M2: a batch fits where a smaller one does",
        (BEFOREHAND,),
    ),
    Mutation(
        "doctor.py",
        '"accumulate": options.accumulate * shares',
        '"accumulate": options.accumulate',
        "M2: another number of rows a step is proposed",
        (BEFOREHAND,),
    ),
    Mutation(
        "memory.py",
        "        if not is_out_of_memory(error):\n            raise\n",
        "        raise\n",
        "M2: out of memory is not told as such",
        (RAN_OUT,),
    ),
    Mutation(
        "train_plan.py",
        '"activation_checkpointing": (),',
        '"activation_checkpointing": (None, False),',
        "M2: a run cannot go on with less memory",
        (RAN_OUT,),
    ),
    Mutation(
        "activation_checkpointing.py",
        "tape.again(mark)",
        "tape.again(0)",
        "M2: a layer runs again with the masks of the first",
        ("tests/test_activation_checkpointing.py",),
    ),
)
