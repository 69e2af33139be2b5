"""Completion scripts, asked as a shell asks them."""

import shutil
import subprocess

import pytest

from jxai import attribution, cli, metrics, models, uncertainty
from jxai.cli import completion

pytest.importorskip("shtab")

ASKED = """
source {script}
function={function}
ask() {{ COMP_WORDS=(jxai "$@"); COMP_CWORD=$#; COMPREPLY=(); $function; echo "${{COMPREPLY[*]}}"; }}
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    for name in ("mine/1.0.0", "mine/1.1.0", "yours/2.0.0"):
        (tmp_path / "data" / "tfds" / name).mkdir(parents=True)
        (tmp_path / "data" / "tfds" / name / "dataset_info.json").write_text("{}")
    (tmp_path / "photo.png").write_text("")
    monkeypatch.setenv("JXAI_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_methods_metrics_models_data_sets_and_files(here, capsys):
    assert cli.main(["completion", "bash"]) == 0
    (here / "script").write_text(capsys.readouterr().out)
    named = subprocess.run(["bash", "-c", f"source {here}/script; complete -p jxai"], capture_output=True, text=True, check=True).stdout
    function = named.split("-F ")[1].split()[0]
    asked = {
        "ev": ["evaluate"],
        "explain --methods": ["--methods"],
        "explain --methods ''": [*attribution.__all__, "all"],
        "explain --methods sobol abl": ["ablation_cam"],
        "evaluate digits --metrics ''": list(metrics.__all__),
        "evaluate ''": ["data", "digits", "mine", "yours"],
        "certify --model ''": list(models.available()),
        "concepts ''": ["data", "digits", "mine", "yours"],
        "concepts --by ''": ["activation", "relevance"],
        "certify --method cro": ["crown", "crown_ibp"],
        "methods ''": list(attribution.__all__),
        "scores ''": list(uncertainty.scores.__all__),
        "uncertainty ''": ["data", "digits", "mine", "yours"],
        "uncertainty digits --scores max_": [name for name in uncertainty.scores.__all__ if name.startswith("max_")],
        "explain ph": ["photo.png"],
        "completion f": ["fish"],
    }
    command = ASKED.format(script=here / "script", function=function) + "".join(f"ask {words}\n" for words in asked)
    lines = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, cwd=here).stdout.splitlines()
    assert {words: sorted(line.split()) for words, line in zip(asked, lines)} == {words: sorted(set(values)) for words, values in asked.items()}


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_read_their_script(here, shell):
    script = completion.script(shell)
    for word in (*attribution.__all__, *metrics.__all__, *models.available(), "counterfactual", "--batch-size" if shell == "zsh" else "batch-size", "yours"):
        assert word in script, word
    if shutil.which(shell):
        (here / "script").write_text(script)
        assert subprocess.run([shell, "-n", str(here / "script")], capture_output=True, check=True).stderr == b""
    if shell == "fish" and shutil.which(shell):
        said = subprocess.run(["fish", "-c", f"source {here}/script; complete -C 'jxai methods occ'"], capture_output=True, text=True, check=True).stdout
        assert said.split()[0] == "occlusion"


def test_another_shell_is_an_error(capsys):
    assert cli.main(["completion", "csh"]) == 2
    assert "invalid choice: 'csh'" in capsys.readouterr().err
