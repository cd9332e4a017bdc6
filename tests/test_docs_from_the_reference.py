"""docs/from-the-reference.md keeps its word: its flags exist, its tests exist, and no option of EsViT is left out."""

from __future__ import annotations

import ast
import re
from contextlib import suppress
from pathlib import Path

import pytest
from audiossl.recipes.esvit_speechcommands import Config

from audiossl.cli import main
from audiossl.config_help import help_text

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/from-the-reference.md").read_text("utf-8")
FLAG = re.compile(r"(?<![\w-])--[a-z][\w.]*")
LAUNCHER = {"--multi_gpu", "--num_processes"}  # of accelerate

# The options of main_esvit.py, eval_linear.py and eval_knn.py at 2d6becd.
OPTIONS = """
cfg arch patch_size out_dim norm_last_layer use_bn_in_head use_dense_prediction momentum_teacher warmup_teacher_temp
teacher_temp warmup_teacher_temp_epochs use_fp16 weight_decay weight_decay_end clip_grad batch_size_per_gpu epochs
freeze_last_layer lr warmup_epochs min_lr optimizer global_crops_scale local_crops_number local_crops_scale
local_crops_size aug-opt color-jitter aa train-interpolation reprob remode recount resplit use_mixup num_mixup_views
mixup cutmix cutmix-minmax mixup-prob mixup-switch-prob mixup-mode smoothing dataset zip_mode tsv_mode sampler data_path
num_workers pretrained_weights_ckpt output_dir saveckp_freq seed dist_url local_rank n_last_blocks avgpool_patchtokens
val_freq num_labels pretrained_weights checkpoint_key nb_knn temperature dump_features load_features use_cuda
"""


def rows(section):
    """Cells of the tables of a section."""
    text = PAGE.partition(f"## {section}\n")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| reference")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_every_flag_exists(capsys):
    known = set(FLAG.findall(help_text(Config, "esvit_speechcommands", ["small"]))) | LAUNCHER
    for command in (["probe"], ["inspect", "attention"], ["inspect", "correspondence"]):
        with suppress(SystemExit):
            main([*command, "--help"])
        known |= set(FLAG.findall(capsys.readouterr().out))
    named = set(FLAG.findall(PAGE))
    assert {"--method.region_weight", "--views.n_mixed", "--last_blocks", "--pictures"} <= named
    assert named - known == set()


def test_every_option_of_the_reference_has_its_row():
    told = [word for row in rows("Options of main_esvit.py") + rows("Options of the evaluations") for word in row[:1]]
    named = {option for cell in told for option in re.findall(r"`([\w-]+)`", cell)}
    assert set(OPTIONS.split()) - named == set()


def test_all_rows_have_both_sides():
    for section in ("Programs", "Options of main_esvit.py", "Options of the evaluations", "Files"):
        assert len(rows(section)) >= 5
        assert all(len(row) == 2 and all(row) for row in rows(section)), section


@pytest.mark.parametrize("number", range(1, 16))
def test_every_defect_names_tests_that_exist(number):
    row = next(cells for cells in rows("Defects that do not exist here") if cells[0] == str(number))
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", row[-1])
    assert named, "a defect without a test"
    for path, function in named:
        tree = ast.parse((ROOT / path).read_text("utf-8"))
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert not function or function in functions, f"{path} has no {function}"
