"""Every test that touches tensors runs on every device that there is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

TESTS = Path(__file__).resolve().parent
# files, or single tests, that compute on the CPU wherever models are, with the reason
ON_THE_CPU = {
    "analysis/test_tally.py": "bits are counted on the CPU, wherever a tensor is",
    "evaluate/test_costs_dtypes.py::test_a_checkpoint_counts_what_it_holds": "a file is read to the CPU, and nothing is computed",
    "evaluate/test_costs_dtypes.py::test_four_bits_of_halves_are_not_of_floats": "a file is read to the CPU, and nothing is computed",
    "evaluate/test_costs_dtypes.py::test_a_graph_of_half_precision_counts_halves": "a file is read to the CPU, and nothing is computed",
    "evaluate/test_coverage.py": "intervals are computed from columns, which the engine keeps on the CPU",
    "evaluate/test_recurrent.py": "elsewhere steps are torch's, which other tests run",
    "evaluate/test_strata_coverage.py": "intervals are computed from columns, which the engine keeps on the CPU",
    "evaluate/test_intervals.py": "intervals are computed from columns, which the engine keeps on the CPU",
    "export/test_export_tracing.py": "threads and flags of this process are looked at, and a file is written on the CPU",
    "export/test_packing_hostile.py": "a file is read to the CPU, and nothing is computed",
    "files/test_attacks.py": "a file is read to the CPU, and nothing is computed",
    "files/test_data.py::test_hostile_data": "a file is read to the CPU, and nothing is computed",
    "files/test_data.py::test_lines_of_text_with_and_without_labels": "a file is read to the CPU, and nothing is computed",
    "files/test_data.py::test_on_a_shared_server_a_child_reads_first": "a file is read to the CPU, and nothing is computed",
    "files/test_data.py::test_pictures_in_class_folders_are_scaled_and_normalized": "a file is read to the CPU, and nothing is computed",
    "files/test_data.py::test_pictures_too_large_to_unpack": "a file is read to the CPU, and nothing is computed",
    "files/test_data.py::test_random_bytes_are_data_or_one_error": "a file is read to the CPU, and nothing is computed",
    "files/test_data.py::test_splits_are_stratified_seeded_and_disjoint": "a file is read to the CPU, and nothing is computed",
    "files/test_data.py::test_what_does_not_fit_is_said": "a file is read to the CPU, and nothing is computed",
    "files/test_differences.py": "a file is read to the CPU, and nothing is computed",
    "files/test_every_entry.py": "a file is read to the CPU, and nothing is computed",
    "files/test_huggingface.py::test_texts_become_what_their_own_tokenizer_makes": "a file is read to the CPU, and nothing is computed",
    "files/test_huggingface_hostile.py": "a file is read to the CPU, and nothing is computed",
    "files/test_huggingface_tasks.py::test_half_precision_is_evaluated_in_float32": "a file is read to the CPU, and nothing is computed",
    "files/test_huggingface_tasks.py::test_without_the_library_weights_and_the_command": "a file is read to the CPU, and nothing is computed",
    "files/test_index.py": "a file is read to the CPU, and nothing is computed",
    "files/test_load.py::test_a_name_that_is_neither_sample_nor_file": "a file is read to the CPU, and nothing is computed",
    "files/test_load.py::test_tied_weights_are_one_layer": "a file is read to the CPU, and nothing is computed",
    "files/test_load.py::test_weights_of_every_floating_type": "a file is read to the CPU, and nothing is computed",
    "files/test_memory.py": "memory of the host is looked at",
    "files/test_noise.py::test_an_onnx_graph_of_several_inputs_says_their_ranges": "ONNX Runtime runs on the CPU",
    "files/test_noise.py::test_the_form_asks_for_each_input": "a form is filled in, and samples are drawn on the CPU",
    "files/test_noise.py::test_what_is_no_shape": "refused before anything is computed",
    "export/test_export_onnx_own.py": "ONNX Runtime runs on the CPU",
    "files/test_onnx.py": "ONNX Runtime runs on the CPU, but for one test that takes the device",
    "files/test_onnx_attacks.py": "a file is read to the CPU, and nothing is computed",
    "files/test_onnx_forms.py": "ONNX Runtime runs on the CPU",
    "files/test_ordered.py::test_layers_of_a_checkpoint_and_of_shards": "a file is read to the CPU, and nothing is computed",
    "files/test_prefill.py": "a file is read to the CPU, and nothing is computed",
    "files/test_stream.py": "a file is read to the CPU, and nothing is computed",
    "files/test_wrong_files.py": "a file is read to the CPU, and nothing is computed",
    "models/test_agreement.py::test_inputs_that_are_no_data_set": "refused before anything is computed",
    "models/test_batches.py::test_what_is_no_batch_is_named": "refused before anything is computed",
    "models/test_joules.py": "counters are read, and nothing is computed",
    "models/test_ledger.py": "numbers of units are bookkeeping, and never leave the CPU",
    "models/test_stack.py::test_reversing_packed_data_is_its_own_inverse": "torch keeps batch sizes on the CPU",
    "models/test_subject.py::test_samples_are_shared": "a sample is loaded to the CPU",
    "models/test_subject.py::test_unknown_sample_with_near_match": "refused before anything is loaded",
    "models/test_subject.py::test_what_is_no_module": "refused before anything is computed",
    "recover/schedules/test_rigl.py::test_a_move_keeps_the_number_of_weights": "counts entries of masks",
    "recover/schedules/test_schedules_contract.py::test_the_same_seed_gives_the_same_model_also_after_a_crash": "promised on the CPU",
    "recover/test_augment.py::test_training_sees_it_judging_does_not_and_a_seed_promises_the_same": "promised on the CPU",
    "recover/test_masters.py::test_a_training_of_half_precision_goes_on_as_if_it_had_not_stopped": "promised on the CPU",
    "recover/test_resume.py": "to the last bit the same is promised on the CPU",
    "recover/test_loop.py::test_the_same_seed_gives_the_same_model_and_another_one_another": "promised on the CPU",
    "sample_models/test_sample_data.py": "data sets are read to the CPU",
    "sample_models/test_sample_models.py::test_card_is_complete": "counts the parameters of what is built on the CPU",
    "sample_models/test_sample_models.py::test_table_is_in_order_and_read_only": "nothing is built",
    "sample_models/test_sample_models.py::test_validation_scores_are_those_on_the_card": "scores as the training script",
    "sample_models/test_sample_training.py": "the training script runs on the CPU, where its results are reproducible",
    "test_cli.py::test_inspect_of_a_file_and_of_one_that_is_refused": "a file is read to the CPU, and nothing is computed",
    "test_cli.py::test_compare_says_what_differs": "a file is read to the CPU, and nothing is computed",
    "test_cli.py::test_inspect_of_a_large_file_streams_it": "a file is read to the CPU, and nothing is computed",
    "ui/test_open_file.py::test_a_path_of_this_machine_is_mapped_and_opened_once": "a file is read to the CPU, and nothing is computed",
    "ui/test_open_file.py::test_folders_of_uploads_are_said_nowhere": "a file is read to the CPU, and nothing is computed",
    "ui/test_open_file.py::test_names_are_never_paths": "a file is read to the CPU, and nothing is computed",
    "ui/test_open_file.py::test_the_card_says_what_can_be_removed_and_why_not": "a file is read to the CPU, and nothing is computed",
    "ui/test_open_file.py::test_the_folder_is_gone_and_the_model_stays": "a file is read to the CPU, and nothing is computed",
    "ui/test_options.py::test_a_shared_server_runs_no_code_of_options": "refused before anything is computed",
    "ui/test_options.py::test_open_app_serves_a_subject_of_the_process": "the app is another process, on the device that it picks",
    "ui/test_options.py::test_what_is_no_subject": "refused before anything is computed",
}
# what is imported from here, or under these names, are tensors and what makes them
SOURCES = ("torch", "tests")
MAKERS = {"explorer.models.samples": "load", "sample_models": "build"}

FILES = sorted(path.relative_to(TESTS).as_posix() for path in TESTS.rglob("test_*.py"))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def functions(path: Path) -> Iterator[ast.FunctionDef]:
    yield from (node for node in tree(path).body if isinstance(node, ast.FunctionDef))


def arguments(function: ast.FunctionDef) -> set[str]:
    return {one.arg for one in (*function.args.args, *function.args.kwonlyargs)}


def names(nodes: list[ast.stmt]) -> set[str]:
    """Names that stand in there, ``explorer.load`` as a whole."""
    inner = [node for outer in nodes for node in ast.walk(outer)]
    dotted = {f"{n.value.id}.{n.attr}" for n in inner if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)}
    return {node.id for node in inner if isinstance(node, ast.Name)} | dotted


def tensors_of(path: Path) -> set[str]:
    """Names of a file that stand for tensors: imported ones, and functions, classes and values made of such."""
    found, made_of = {"explorer.load"}, {}
    for node in tree(path).body:
        if isinstance(node, ast.Import):
            found |= {(a.asname or a.name).partition(".")[0] for a in node.names if a.name.partition(".")[0] in SOURCES}
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            imported = {alias.asname or alias.name for alias in node.names if not alias.name.isupper()}
            found |= imported if source.partition(".")[0] in SOURCES else imported & {MAKERS.get(source)}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            made_of[node.name] = names(node.body)
        elif isinstance(node, ast.Assign):
            made_of |= {target.id: names([node]) for target in node.targets if isinstance(target, ast.Name)}
    return closure(found, made_of)


def fixtures_over(name: str, path: Path) -> set[str]:
    """Fixtures that a file sees and that depend on one."""
    seen = [path, *(folder / "conftest.py" for folder in path.parents if folder.is_relative_to(TESTS))]
    needs = {
        one.name: arguments(one) for file in seen if file.exists() for one in functions(file) if one.decorator_list
    }
    return closure({name}, needs)


def closure(found: set[str], needs: dict[str, set[str]]) -> set[str]:
    """``found``, and what needs one of them, directly or not."""
    while more := {name for name, needed in needs.items() if name not in found and needed & found}:
        found |= more
    return found


def complaints(file: str) -> Iterator[str]:
    """What is wrong with the tests of a file."""
    path = TESTS / file
    tensors, over = tensors_of(path), fixtures_over("device", path)
    elsewhere = fixtures_over("browser", path)  # the app is another process, on the device that it picks
    for test in functions(path):
        if not test.name.startswith("test_") or f"{file}::{test.name}" in ON_THE_CPU:
            continue
        used, given = names(test.body), arguments(test)
        if used & tensors and not given & (over | elsewhere):
            yield f"{file}: {test.name} uses {', '.join(sorted(used & tensors))}: it must take the fixture device"
        if "device" in given - used:
            yield f"{file}: {test.name} takes device and does not use it"


def test_what_touches_tensors_runs_on_every_device() -> None:
    found = [line for file in FILES if file not in ON_THE_CPU for line in complaints(file)]
    assert not found, "\n".join(found)


def test_a_test_that_forgets_its_device_is_found(tmp_path: Path) -> None:
    """Directly, through a helper, and with a device that is never used."""
    path = tmp_path / "test_it.py"
    path.write_text(
        "import torch\nfrom tests.contract.nets import tiny\n\n"
        "def made():\n    return torch.ones(2)\n\n"
        "def test_a():\n    tiny()\n\ndef test_b():\n    made()\n\ndef test_c(device):\n    tiny()\n\n"
        "def test_d(device):\n    tiny(device=device)\n\ndef test_e():\n    assert 1\n",
        encoding="utf-8",
    )
    assert [line.split()[1] for line in complaints(str(path))] == ["test_a", "test_b", "test_c"]


def test_what_stays_on_the_cpu_is_there() -> None:
    for name in ON_THE_CPU:
        file, _, test = name.partition("::")
        assert file in FILES and (not test or test in {one.name for one in functions(TESTS / file)}), name
