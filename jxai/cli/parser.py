"""What can be typed after `jxai`: commands, their options and their defaults. Loads nothing but the standard library."""

from __future__ import annotations

import argparse

from jxai.cli import arguments

SHELLS = ("bash", "zsh", "fish")

_EPILOG = """\
Every option of a method is an option here: --sobol.grid 11, --rise.fill 0.5, --occlusion.fill blur:10, --lime.segments map.npy.
`jxai methods NAME` lists a method's options with their defaults.
Of a folder or of several images, one that cannot be read stops nothing, the same command goes on where it was stopped, and index.csv says what became of each.
"""
_EVALUATE_EPILOG = """\
Every option of a method or metric is an option here: --sobol.grid 11, --deletion.steps 64, --irof.segments slic:60.
Several values of one make several columns: --sobol.num_designs 8,16, or the option twice; --methods sobol,sobol@num_designs=16 gives one column an option of its own.
The same command again goes on where it was stopped; with more methods, metrics, seeds or images it computes what is missing alone.
With --shared, several of it work together, on machines that see the same folder.
"""
_CERTIFY_EPILOG = """\
Every option of jxai.bounds.margins is an option here: --margins.rounding nearest (outward unless told), --margins.steps 40.
The same command again goes on where it was stopped.
"""
_SUFFICE_EPILOG = """\
Every option of a method is an option here: --batched_gradient_sis.per_step 100, --batched_gradient_sis.fill blur:10, --sis.segments slic:60.
"""
_DISAMBIGUATE_EPILOG = """\
Every option of the search is an option here: --disambiguate.segments slic:40, --disambiguate.score probability, --disambiguate.attribution occlusion.
"""
_COUNTERFACTUAL_EPILOG = """\
Every option of a method is an option here: --diffeomorphic.threshold 0.9, --wachter.distance l2. Methods: those of jxai.counterfactual.METHODS.
The same command again goes on where it was stopped.
"""
_CONCEPTS_EPILOG = """\
Every option of LRP is an option here: --lrp.composite epsilon, --lrp.epsilon 1e-3. `jxai methods lrp` lists them.
The same command again goes on where it was stopped; another image, or other channels, only need another picture.
"""
_UNCERTAINTY_EPILOG = """\
Every option of a score, and of its fit, is an option here: --knn.num_neighbours 10, --vim.dimension 64, --odin.temperature 100; several values make several columns.
Any data set may be corrupted: cifar10+gaussian_noise:3 is its pictures with noise of severity 3 (the corruptions of ImageNet-C and CIFAR-10-C).
The same command again goes on where it was stopped; `jxai report RUN` writes its tables, curves and page again.
"""
_DOCTOR = """\
Says which versions, extras, devices, caches, data and weights there are, and tests a gradient, bounds and a Sobol map against closed forms, in seconds.
The exit code is 1 where something is broken. Nothing is changed; the text can be pasted into an issue.
"""
_COMPLETION = """\
Prints a script by which a shell completes commands, options, methods, metrics, scores, models, data sets and files: eval "$(jxai completion bash)" in ~/.bashrc.
"""


def parser() -> argparse.ArgumentParser:
    """The whole command line; what is wrong with one raises `UserError`."""
    whole = arguments.Parser(prog="jxai", description="Explains what a classifier sees.")
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=arguments.Parser)
    explain = arguments.command(commands, "explain", "explain the classes of images", "Explains images; without one, a photograph of a cup of coffee.", _EPILOG)
    explain.add_argument("images", nargs="*", metavar="IMAGE", help="an image file, an .npy with an example as the model takes it, or a folder of images")
    arguments.model(explain.add_argument)
    arguments.named(explain.add_argument, "--methods", "names, a b c or a,b,c, or all that can explain the model (default: nine that differ)")
    arguments.named(explain.add_argument, "--target", "indices or names of classes (default: the top-1)")
    arguments.score(explain.add_argument)
    arguments.medical(explain.add_argument)
    explain.add_argument(
        "--out", default="explanation", help="folder for explanation.png and explanation.npz, of several images for a folder of each (default: %(default)s)"
    )
    arguments.html(explain.add_argument)
    explain.add_argument("--anew", action="store_true", help="of several images explain again those that are explained in the folder already")
    explain.add_argument("--seed", type=arguments.seed, default=0, help="of the random numbers (default: %(default)s)")
    _evaluation(commands)
    _certification(commands)
    _counterfactuals(commands)
    _concepts(commands)
    _spray(commands)
    _uncertainty(commands)
    _claims(commands)
    compare = commands.add_parser("compare", help="what differs between results of experiments", description="Lays results of experiments side by side.")
    for name in ("a", "b"):
        compare.add_argument(name, metavar=name.upper(), help="the folder of a result, or its results.json")
    listed = {
        "methods": "methods, or one method with its options",
        "metrics": "metrics, or one metric with its options",
        "models": "models",
        "scores": "scores of uncertainty, or one score with its options",
    }
    for name, what in listed.items():
        commands.add_parser(name, help=f"list {what}", description=f"Lists {what}.").add_argument("name", nargs="?", metavar="NAME")
    doctor = commands.add_parser("doctor", help="say what is installed and whether it works", description=_DOCTOR)
    doctor.add_argument("--json", action="store_true", help="as JSON")
    completion = commands.add_parser("completion", help="a script by which a shell completes jxai's words", description=_COMPLETION)
    completion.add_argument("shell", choices=SHELLS, help="what to complete in")
    return whole


def commands(whole: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of its commands, by name."""
    return next(dict(action.choices) for action in whole._actions if isinstance(action, argparse._SubParsersAction))


def _evaluation(commands) -> None:
    evaluate = arguments.command(
        commands, "evaluate", "judge explanations over a data set", "Explains the examples of a data set, and judges every explanation.", _EVALUATE_EPILOG
    )
    add = evaluate.add_argument
    add("dataset", metavar="DATASET", help="digits, a folder of images, or a data set of TFDS (name or name:version)")
    arguments.model(add, by_data=True)
    own = "package.module:function is one of your own"
    arguments.named(add, "--methods", f"names, a b c or a,b,c, or all that can explain the model; {own}; abs:NAME takes the magnitudes of a map", required=True)
    arguments.named(add, "--metrics", f"names, a b c or a,b,c; {own}", required=True)
    arguments.score(add)
    add("--out", required=True, metavar="RUN", help="folder of the run; one that is there is gone on with")
    arguments.anew(add)
    arguments.limit(add)
    add("--shuffle", action="store_true", help="take the examples in random order, by the seed")
    add("--target", default="predicted", choices=("predicted", "label"), help="the class that is explained (default: %(default)s)")
    add("--where", default="all", choices=("all", "correct"), help="which examples: those classified right, or all (default: %(default)s)")
    arguments.prepared(add)
    arguments.medical(add)
    add("--masks", help="folder with a mask for each image of a folder")
    add("--seed", type=arguments.seed, default=0, help="of the sample and the random numbers (default: %(default)s)")
    arguments.named(
        add, "--seeds", "of the random numbers, several, 0,1,2: tables average over them within an example (default: that of --seed)", metavar="SEED"
    )
    add("--block", type=int, help="examples that are written together (default: 8 large or up to 32 small ones)")
    add("--batch-size", type=int, help="examples at once on a device (default: what suits their size)")
    add("--no-maps", action="store_true", help="keep the scores only, not the explanations")
    add("--distributed", action="store_true", help="join a JAX cluster first, where the devices need one (TPU pods): found by its detection, or named by:")
    add("--coordinator", metavar="HOST:PORT", help="address of the first process")
    add("--processes", type=int, help="how many there are")
    add("--process", type=int, help="which of them this is, from 0")
    report = commands.add_parser("report", help="tables and pictures of evaluation runs", description="Writes tables and pictures of evaluation runs.")
    report.add_argument("runs", nargs="+", metavar="RUN", help="the folder of an evaluation")
    report.add_argument("--out", help="folder for summary.csv, summary.md, pictures and report.html (default: report in the first run)")
    report.add_argument("--no-pictures", action="store_true", help="tables only")
    report.add_argument("--images", type=int, default=64, help="examples of each run in report.html, at most (default: %(default)s)")


def _certification(commands) -> None:
    certify = arguments.command(
        commands,
        "certify",
        "prove that no small change of an image changes its class",
        "Certifies and attacks an image, or every example of a data set.",
        _CERTIFY_EPILOG,
    )
    add = certify.add_argument
    add("input", metavar="IMAGE|DATASET", help="an image file or an .npy; or digits, a folder of images, or a data set of TFDS")
    add("--radius", type=float, required=True, help="of the ball around x, in units of x (a pixel is in [0, 1])")
    add("--p", default="inf", choices=("inf", "2", "1"), help="norm of the ball (default: %(default)s)")
    add("--clip", default="0,1", help="valid range of x, or none (default: %(default)s)")
    arguments.model(add, by_data=True)
    add("--method", default="crown", help="the bound: interval, forward, crown_ibp, crown or alpha_crown (default: %(default)s)")
    add("--steps", type=int, default=40, help="of each descent of the attack (default: %(default)s)")
    add("--restarts", type=int, default=2, help="descents of the attack (default: %(default)s)")
    add("--target", help="the class: of an image an index or name (default: the predicted one), of a data set label (default) or predicted")
    add("--out", help="file for an image's certificate (default: certificate.npz), or folder of the run (default: certification)")
    arguments.run(add)
    add("--seed", type=arguments.seed, default=0, help="of the attack's random starts (default: %(default)s)")
    add("--block", type=int, help="examples that are written together (default: 8 large or up to 32 small ones)")
    add("--batch-size", type=int, help="examples at once (default: what suits their size)")


def _counterfactuals(commands) -> None:
    counterfactual = arguments.command(
        commands,
        "counterfactual",
        "find what would have to change",
        "Searches counterfactuals of an image, or of every example of a data set.",
        _COUNTERFACTUAL_EPILOG,
    )
    add = counterfactual.add_argument
    add("input", metavar="IMAGE|DATASET", help="an image file or an .npy; or digits, a folder of images, or a data set of TFDS")
    add("--method", default="diffeomorphic", help="how to search (default: %(default)s)")
    arguments.named(add, "--target", "second (default: the runner-up), all, or classes by index or name (of a data set one)")
    add("--generator", help="a name of jxai.models.generators(), or package.module:factory (default: the one that goes with the model)")
    arguments.model(add, by_data=True)
    add("--out", help="folder for an image's pictures and arrays (default: counterfactual), or of the run (default: counterfactuals)")
    arguments.run(add)
    add("--seed", type=arguments.seed, default=0, help="of random starts (default: %(default)s)")
    add("--block", type=int, help="examples that are searched and written together (default: 100)")


def _concepts(commands) -> None:
    concepts = arguments.command(
        commands,
        "concepts",
        "say what the channels that decided stand for",
        "Collects what every channel of a layer does for the examples of a data set, and shows an image's most relevant channels beside the examples that speak most for each.",
        _CONCEPTS_EPILOG,
    )
    add = concepts.add_argument
    add("dataset", metavar="DATASET", help="digits, a folder of images, or a data set of TFDS (name or name:version)")
    arguments.model(add, by_data=True)
    add("--layer", help="an index or part of a name of the layers of jxai.taps (default: the last with positions)")
    add("--by", default="relevance", choices=("relevance", "activation"), help="by what examples speak for a channel (default: %(default)s)")
    add("--reduction", default="sum", choices=("sum", "max"), help="of a channel over positions (default: %(default)s)")
    add("--of", default="label", choices=("label", "predicted"), help="which class of each example is explained (default: %(default)s)")
    add("--image", help="whose channels are shown: an image file, an .npy, or a place in the data set (default: its first)")
    add("--target", help="index or name of the class that is explained of the image (default: the top-1)")
    add("--top", type=int, default=8, help="how many of its channels are shown (default: %(default)s)")
    arguments.named(add, "--channels", "numbers of channels, 3 17 or 3,17, instead", metavar="CHANNEL")
    add("--references", type=int, default=6, help="examples for each channel (default: %(default)s)")
    add("--out", default="concepts", metavar="RUN", help="folder of the run, concepts.png and references.npz (default: %(default)s)")
    arguments.run(add)
    add("--seed", type=arguments.seed, default=0, help="of the sample (default: %(default)s)")
    add("--block", type=int, help="examples that are written together (default: 8 large or up to 32 small ones)")
    add("--batch-size", type=int, help="examples at once (default: what suits their size)")


def _spray(commands) -> None:
    spray = commands.add_parser(
        "spray",
        help="find clusters of the explanations of a run",
        description="Finds clusters (SpRAy) of the explanations that an evaluation run keeps, by method and class: do all examples of a class have the same reasons?",
    )
    add = spray.add_argument
    add("run", metavar="RUN", help="the folder of an evaluation")
    arguments.named(add, "--methods", "of the run, a b c or a,b,c (default: all)")
    arguments.named(add, "--label", "explained classes by index or name, a b c or a,b,c (default: each with at least 10 examples)", metavar="CLASS")
    add("--together", action="store_true", help="the examples of all classes as one")
    add("--size", type=int, default=32, help="side to which maps of images are made smaller, or 0 (default: %(default)s)")
    add("--norm", default="none", choices=("none", "l1", "l2"), help="of every map, by which it is divided (default: %(default)s)")
    add("--neighbours", type=int, help="of each example in the graph (default: the logarithm of their number)")
    add("--clusters", type=int, help="how many (default: by eigengap and silhouette)")
    add("--most", type=int, default=10, help="clusters among which is chosen (default: %(default)s)")
    add("--gap", default="relative", choices=("relative", "absolute"), help="how eigengaps are compared (default: %(default)s)")
    add("--layout", default="tsne", choices=("tsne", "umap", "none"), help="of the picture (default: %(default)s)")
    add("--permutations", type=int, default=99, help="data without clusters to which the eigengap is compared; 0: no test (default: %(default)s)")
    add("--seed", type=arguments.seed, default=0, help="of the random numbers (default: %(default)s)")
    add("--out", help="folder for pictures, summary.csv and labels.csv (default: spray in the run)")
    arguments.html(add)


def _uncertainty(commands) -> None:
    uncertainty = arguments.command(
        commands,
        "uncertainty",
        "say whether a model knows when it does not know",
        "Asks how unsure a model is of every example of a data set and of others, and whether that tells its errors and the other data.",
        _UNCERTAINTY_EPILOG,
    )
    add = uncertainty.add_argument
    add("dataset", metavar="DATASET", help="digits, a folder of images, or a data set of TFDS (name or name:version), also corrupted: NAME+CORRUPTION:SEVERITY")
    arguments.model(add, by_data=True)
    arguments.named(add, "--scores", "names, a b c or a,b,c, or all that can be had (default: %(default)s)", default="all")
    add("--against", nargs="+", action="extend", metavar="OTHER", help="other data sets, spelled as DATASET; noise is even noise (default: noise)")
    add("--resize", action="store_true", help="bring the pictures of other data sets to the size and the channels of DATASET's")
    add("--fit-on", metavar="DATASET", help="labelled examples on which scores are fitted, or none (default: the split train of DATASET)")
    add("--fit-split", metavar="SPLIT", help="of these (default: train)")
    add("--fit-limit", type=int, default=5000, help="at most so many of them, of every class its share (default: %(default)s)")
    add("--out", default="uncertainty", metavar="RUN", help="folder of the run; its tables go to RUN/report (default: %(default)s)")
    add("--no-pictures", action="store_true", help="keep no pictures of the examples")
    arguments.run(add)
    add("--seed", type=arguments.seed, default=0, help="of the samples, and of scores that draw (default: %(default)s)")
    add("--block", type=int, help="examples that are written together (default: 8 large or up to 32 small ones)")
    add("--batch-size", type=int, help="examples at once (default: what suits their size)")


def _claims(commands) -> None:
    told = {
        "suffice": ("find the pixels that suffice for the model's confidence", "Finds few pixels that bring the model to its confidence.", _SUFFICE_EPILOG),
        "disambiguate": (
            "tell two objects from two guesses about one",
            "Says whether likely labels rest on different parts of an image.",
            _DISAMBIGUATE_EPILOG,
        ),
    }
    for name, (short, description, epilog) in told.items():
        command = arguments.command(commands, name, short, description, epilog)
        add = command.add_argument
        add("image", nargs="?", metavar="IMAGE", help="an image file, or an .npy (default: a photograph of a cup of coffee)")
        arguments.model(add)
        arguments.medical(add)
        arguments.html(add)
        add("--seed", type=arguments.seed, default=0, help="of the random numbers (default: %(default)s)")
        if name == "suffice":
            add("--method", default="batched_gradient_sis", help="batched_gradient_sis, sis (exact, patches) or random_subset (default: %(default)s)")
            add("--target", help="index or name of the class (default: the top-1)")
            add("--threshold", type=float, default=0.9, help="of the probability, or of what --METHOD.score names (default: %(default)s)")
            add("--out", default="sufficient", help="folder for pictures and the certificate (default: %(default)s)")
        else:
            add("--top", type=int, default=5, help="all pairs of so many likeliest labels (default: %(default)s)")
            arguments.named(add, "--labels", "indices or names of classes, a b c or a,b,c, instead")
            add("--delta", type=float, default=0.8, help="the strength that a proof must have, in (0, 1) (default: %(default)s)")
            add("--out", default="disambiguation", help="folder for pictures and certificates (default: %(default)s)")
    verify = commands.add_parser(
        "verify", help="check a certificate again", description="Checks a certificate again; the exit code is 1 where it does not hold."
    )
    verify.add_argument("certificate", metavar="CERTIFICATE", help="an .npz that certify, suffice or disambiguate wrote")
    verify.add_argument("image", nargs="?", metavar="IMAGE", help="what it is about (default: the photograph of a cup of coffee)")
    arguments.model(verify.add_argument)
    arguments.medical(verify.add_argument)
