"""What protects data, caches, YAML and labels."""

from mutations import Mutation

BAD_ROWS = "tests/faults/test_bad_rows.py::test_"
CACHE = "tests/faults/test_cache.py::test_"
NAMES = "tests/faults/test_yaml_and_names.py::test_"
LABELS = "tests/faults/test_labels.py::test_"
MILLION = "tests/faults/test_million_rows.py::test_many_rows_are_opened_without_being_read_into_memory"
MUTATED = "tests/faults/test_mutated_files.py::test_damaged_files_are_read_or_refused_by_errors_of_ours"

PROTECTIONS = (
    Mutation(
        "data/cache.py",
        "with FileLock(self.folder.with_name(self.folder.name + LOCK)):",
        'with FileLock(self.folder.with_name(f"{os.getpid()}{LOCK}")):',
        "R9: builders do not wait for each other",
        (f"{CACHE}processes_that_want_the_same_split_build_it_once_and_leave_nothing",),
    ),
    Mutation(
        "data/cache.py",
        "            self._clear()\n",
        "",
        "R9: what killed builds left stays",
        (f"{CACHE}what_a_killed_build_left_of_a_split_that_is_gone_is_cleared_by_the_next_build",),
    ),
    Mutation(
        "data/cache.py",
        'staged = self.folder.with_name(f"{STAGED}{self.folder.name}")',
        'staged = self.folder.with_name(f"{STAGED}{self.folder.name}-{os.getpid()}")',
        "R9: every build has a temporary folder of its own",
        (f"{CACHE}after_kills_inside_the_build_the_split_is_right_and_nothing_is_left",),
    ),
    Mutation(
        "data/cache.py",
        'if sha256(folder / UNITS) != facts.pop("units"):',
        'if not facts.pop("units"):',
        "R10: the units' bytes are not checked",
        (f"{CACHE}a_damaged_entry_is_built_again_with_one_warning",),
    ),
    Mutation(
        "data/cache.py",
        "if end or hashlib.sha256(content).hexdigest().encode() != digest:",
        "if end or not digest:",
        "R10: the facts' bytes are not checked",
        (f"{CACHE}a_damaged_entry_is_built_again_with_one_warning",),
    ),
    Mutation(
        "data/sources.py",
        "digest.update(bytes.fromhex(_file_hash(self._file(name))))",
        "digest.update(str(self._file(name).stat()[6:9:2]).encode())",
        "R10: a source is known by its size and time",
        (f"{CACHE}a_source_that_changed_at_the_same_size_and_time_is_read_again",),
    ),
    Mutation(
        "data/units.py",
        "        if not text.strip():\n            faults",
        "        if False:\n            faults",
        "D1: empty texts are let through",
        (f"{BAD_ROWS}every_bad_row_is_told_with_its_place_column_and_value_or_left_out_and_kept_apart",),
    ),
    Mutation(
        "data/units.py",
        "        self.counts.rejected += 1\n",
        "",
        "D1: skipped rows are not counted",
        (f"{BAD_ROWS}every_bad_row_is_told_with_its_place_column_and_value_or_left_out_and_kept_apart",),
    ),
    Mutation(
        "data/formats.py",
        "            records.keep_first()\n",
        "",
        "D1: a quote that is never closed takes the following rows with it",
        (f"{BAD_ROWS}a_line_that_cannot_be_read_costs_itself_and_no_other",),
    ),
    Mutation(
        "data/formats.py",
        "    if len(cells) == len(header):\n        return Row(",
        "    if cells:\n        cells = (cells + header)[: len(header)]\n        return Row(",
        "D1: short and long rows are let through",
        (f"{BAD_ROWS}a_line_that_cannot_be_read_costs_itself_and_no_other",),
    ),
    Mutation(
        "data/formats.py",
        "self.waiting.popleft() if self.waiting else next(self.lines))\n        return self.taken[-1].text",
        "self.waiting.popleft() if self.waiting else next(self.lines))\n"
        '        return self.taken[-1].text.replace("\\r", "")',
        "D2: a CSV's carriage returns are dropped",
        (f"{BAD_ROWS}any_texts_come_back_as_they_were_written[csv]",),
    ),
    Mutation(
        "checks.py",
        'if split == "train" and place != "train" and other != task:',
        "if False:",
        "D3: leaks between tasks are not reported",
        (f"{BAD_ROWS}an_example_in_two_splits_of_one_task_or_of_two_is_reported_and_left_out_of_training",),
    ),
    Mutation(
        "data_store.py",
        "clean = order[~leaked[order]]",
        "clean = order",
        "D3: leaks stay in the training data",
        (f"{BAD_ROWS}an_example_in_two_splits_of_one_task_or_of_two_is_reported_and_left_out_of_training",),
    ),
    Mutation(
        "data/tokenize.py",
        "        return self.table.data.column(name)",
        "        self.__dict__[name] = self.table[:]\n        return self.table.data.column(name)",
        "D4: the whole split is read into memory",
        (MILLION,),
    ),
    Mutation(
        "yaml_files.py",
        "self.written > MAX_WRITTEN or ",
        "",
        "C1: a file of any length is read to its end",
        (f"{NAMES}hostile_yaml_is_right_or_refused_at_once_with_file_and_line",),
    ),
    Mutation(
        "yaml_files.py",
        'count["nodes"] > MAX_NODES or ',
        "",
        "C1: bombs are expanded",
        (f"{NAMES}hostile_yaml_is_right_or_refused_at_once_with_file_and_line",),
    ),
    Mutation(
        "yaml_files.py",
        "    if key.value in seen:",
        "    if False:",
        "C1: the last of two keys wins",
        (f"{NAMES}hostile_yaml_is_right_or_refused_at_once_with_file_and_line",),
    ),
    Mutation(
        "errors.py",
        "n=5, cutoff=0.5)",
        "n=5, cutoff=0.95)",
        "C2: only the nearest names are suggested",
        (f"{NAMES}typing_errors_get_the_right_suggestion",),
    ),
    Mutation(
        "model.py",
        "    if (saved.head_type, saved.label_names) != (task.head_type, task.label_names):",
        "    if (saved.head_type, len(saved.labels)) != (task.head_type, len(task.labels)):",
        "C3: another order of labels is loaded",
        (f"{LABELS}another_order_of_labels_is_refused_with_both_or_the_heads_rows_are_put_in_it",),
    ),
    Mutation(
        "model.py",
        "if saved is not None and saved != given:",
        "if False:",
        "C3: another tokenizer is used",
        (f"{LABELS}another_tokenizer_is_refused_with_both",),
    ),
    Mutation(
        "model.py",
        "if model.config.encoder_max_length != max_length:",
        "if False:",
        "C3: another length is used",
        (f"{LABELS}a_stage_does_not_start_from_a_model_of_another_length",),
    ),
    Mutation(
        "data/sources.py",
        "if (data_dir is not None or came_with_a_checkpoint(root)) and not",
        "if data_dir is not None and not",
        "S3: a definition beside a checkpoint may name any file",
        (f"{NAMES}a_data_path_that_leaves_its_folder_is_refused",),
    ),
    Mutation(
        "data/sources.py",
        "if data_dir is None and task.folder == Path():",
        "if False:",
        "S3: a definition inside a checkpoint may name any file",
        (f"{NAMES}a_data_path_that_leaves_its_folder_is_refused",),
    ),
    Mutation(
        "tasks.py",
        ' and not set("./\\\\") & set(name)',
        "",
        "S3: a task's name may be a path",
        (f"{NAMES}a_name_that_leads_elsewhere_is_refused",),
    ),
    Mutation(
        "model.py",
        "if wrong := sorted(",
        "if wrong := [] and sorted(",
        "S4: weights that are missing are drawn at random",
        ("tests/faults/test_mutated_files.py::test_a_model_with_a_weight_of_another_name_is_refused",),
    ),
    Mutation(
        "files.py",
        "RecursionError, MemoryError, SafetensorError)",
        "RecursionError, MemoryError)",
        "S4: a damaged part is an error of safetensors",
        (f"{MUTATED}[small files]",),
    ),
    Mutation(
        "data/formats.py",
        "except (ValueError, RecursionError) as error:",
        "except ValueError as error:",
        "S4: deep JSON ends in a RecursionError",
        (f"{BAD_ROWS}a_line_that_cannot_be_read_costs_itself_and_no_other",),
    ),
)
