"""Lists of names on the command line: `a b c` is `a,b,c`, and what ends one is seen from the words alone."""

import pytest

from jxai import cli
from jxai.cli import arguments, parser


def parsed(text):
    words, given = arguments.split(arguments.joined(text.split()))
    return parser.parser().parse_args(words), given


@pytest.mark.parametrize(
    "text, methods, images",
    [
        ("explain --methods gradient sobol", "gradient,sobol", []),
        ("explain --methods gradient,sobol lime", "gradient,sobol,lime", []),
        ("explain photo.png --methods gradient sobol", "gradient,sobol", ["photo.png"]),
        ("explain --methods gradient sobol photo.PNG other", "gradient,sobol", ["photo.PNG", "other"]),
        ("explain --methods gradient sobol photos/", "gradient,sobol", ["photos/"]),
        ("explain --methods gradient sobol scan.nii.gz", "gradient,sobol", ["scan.nii.gz"]),
        ("explain --methods gradient sobol -- photo", "gradient,sobol", ["photo"]),
        ("explain --methods gradient sobol --seed 3 photo", "gradient,sobol", ["photo"]),
        ("explain --methods gradient sobol --sobol.grid 3 photo", "gradient,sobol", ["photo"]),
        ("explain --methods=gradient sobol", "gradient", ["sobol"]),
        ("explain --methods abs:gradient own.module:method", "abs:gradient,own.module:method", []),
        ("explain -- --methods", None, ["--methods"]),
    ],
)
def test_a_list_ends_at_an_option_and_at_a_word_that_can_only_be_a_path(text, methods, images):
    args, given = parsed(text)
    assert (args.methods, args.images) == (methods, images)
    assert given == ([("sobol", "grid", "3")] if "grid" in text else [])


def test_every_list_is_taken_in_both_ways():
    args, _ = parsed("evaluate digits --methods abs:gradient sobol,lime --metrics deletion insertion --out run --target label")
    assert (args.dataset, args.methods, args.metrics, args.target) == ("digits", "abs:gradient,sobol,lime", "deletion,insertion", "label")
    assert parsed("explain --target 3 -1 photo.png")[0].target == "3,-1"
    assert parsed("counterfactual --target 3 5 photo.png")[0].input == "photo.png"
    assert parsed("disambiguate --labels 3 5 photo.png")[0].labels == "3,5"
    assert parsed("verify made.npz scan.dcm --window -600 1500")[0].window == parsed("certify --window -600,1500 scan.dcm --radius 1")[0].window == "-600,1500"
    assert parsed("suffice --target cup photo.png")[0].image == "photo.png"  # one class: no list
    commands = parser.parser()._subparsers._group_actions[0].choices
    joined = {name: {o for a in c._actions if isinstance(a, arguments._Joined) for o in a.option_strings} for name, c in commands.items()}
    assert {name: options for name, options in joined.items() if options} == {name: set(options) for name, options in arguments.LISTS.items()}


def test_a_data_set_that_a_list_took_is_said(capsys, tmp_path, monkeypatch):
    assert cli.main("evaluate --out run --metrics deletion --methods gradient digits".split()) == 2
    said = capsys.readouterr().err
    assert "arguments are required: DATASET (--methods takes every word up to the next option, and took 'digits', too: put it first)" in said
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    assert cli.main("explain --methods gradient photos".split()) == 2
    assert "unknown method 'photos', which is a file or a folder: put it before --methods, or write photos/" in capsys.readouterr().err
