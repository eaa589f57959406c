"""Users' code that raises, ends the process, gives no network, or changes what is not its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tests.evolution.protocol.runs import INLINE, ONE_WORKER, TINY
from tests.hostile.case import EITHER, Case, Ending, Place

RAISED = {
    "error": "raise ValueError('of its own')",
    "exit": "raise SystemExit(0)",
    "exit without a code": "sys.exit()",
    "exit with words": "sys.exit('a\\nfew words')",
    "interrupt": "raise KeyboardInterrupt('of its own')",
    "generator exit": "raise GeneratorExit",
    "stop": "raise StopIteration",
    "base": "raise Stopped('of its own')",
    "memory": "raise MemoryError",
    "recursion": "again()",
    "assertion": "assert False",
    "error without words": "raise RuntimeError",
    "words of several lines": "raise RuntimeError('one\\ntwo\\x1b[31m')",
    "words that raise": "raise Wordless",
    "group": "raise BaseExceptionGroup('all', [SystemExit(1), ValueError('one')])",
    "broken pipe": "raise BrokenPipeError",
    "no such file": "open('weights-that-are-missing.pt')",
    "unicode": "b'\\xff'.decode()",
}
HEAD = """
import asyncio, os, random, signal, sys, time, warnings
import torch
from torch import nn

class Stopped(BaseException):
    pass

class Wordless(Exception):
    def __str__(self):
        raise RuntimeError('no words')

def again():
    again()

"""
# What a function returns, or does before it returns a network, and what is said of it.
RETURNED = {
    "nothing": ("return None", "NoneType"),
    "a number": ("return 3", "int"),
    "a class": ("return nn.Linear", "type"),
    "a list": ("return [nn.Linear(256, 10)]", "list"),
    "a state dict": ("return nn.Linear(256, 10).state_dict()", "OrderedDict"),
    "itself": ("return make", "function"),
    "detached": ("return Net(lambda y: y.detach())", "gradient"),
    "computed without gradients": ("return Net(lambda y: torch.tensor(y.numpy()))", ""),
    "whole numbers": ("return Net(lambda y: y.round().long())", "int64"),
    "complex": ("return Net(lambda y: torch.complex(y, y))", "complex64"),
    "truths": ("return Net(lambda y: y > 0)", "bool"),
    "nan": ("return Net(lambda y: y * float('nan'))", "not finite"),
    "infinity": ("return Net(lambda y: y / 0)", "not finite"),
    "probabilities": ("return Net(lambda y: y.softmax(1))", "probabilities"),
    "one class less": ("return Net(lambda y: y[:, 1:])", "(1, 9)"),
    "maps": ("return Net(lambda y: y[:, :, None])", "(1, 10, 1)"),
    "no axis of classes": ("return Net(lambda y: y.sum(1))", "(1,)"),
    "no classes": ("return Net(lambda y: y[:, :0])", "(1, 0)"),
    "a scalar": ("return Net(lambda y: y.sum())", "()"),
    "a tuple": ("return Net(lambda y: (y, y))", "tuple"),
    "a dict": ("return Net(lambda y: {'logits': y})", "dict"),
    "none of it": ("return Net(lambda y: None)", "NoneType"),
    "sparse": ("return Net(lambda y: y.to_sparse())", "sparse"),
    "meta": ("return Net(lambda y: y.to('meta'))", "meta"),
    "another batch": ("return Net(lambda y: y.repeat(2, 1))", "(2, 10)"),
    "one for all": ("return Net(lambda y: y.mean(0, keepdim=True))", "for 2 images"),
    "no forward": ("return nn.Module()", "forward"),
    "meta weights": ("return nn.Sequential(nn.Flatten(), nn.Linear(256, 10, device='meta'))", ""),
}
NET = """
class Net(nn.Module):
    def __init__(self, last):
        super().__init__()
        self.linear, self.last = nn.Linear(256, 10), last

    def forward(self, x):
        return self.last(self.linear(x.flatten(1)))

"""
# What is allowed, and leaves nothing behind.
CHANGED = {
    "folder": "os.chdir('/')",
    "removed folder": "os.mkdir('x'); os.chdir('x'); os.rmdir('../x')",
    "dtype": "torch.set_default_dtype(torch.float16); torch.set_default_dtype(torch.float32)",
    "threads": "torch.set_num_threads(3)",
    "seed": "torch.manual_seed(1); random.seed(1)",
    "gradients": "torch.set_grad_enabled(False)",
    "inference": "torch._C._set_grad_enabled(False)",
    "interrupts": "signal.signal(signal.SIGINT, signal.SIG_IGN)",
    "termination": "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
    "warnings": "warnings.simplefilter('error'); warnings.simplefilter('always')",
    "a warning": "warnings.warn('of its own')",
    "torch's warning": "torch.tensor([1.0, 2.0]).reshape(2).T",
    "prints": "print('a word'); print('another', file=sys.stderr)",
    "stdout": "sys.stdout = None",
    "stderr": "sys.stderr = open(os.devnull, 'w')",
    "recursion limit": "sys.setrecursionlimit(80)",
    "hook": "sys.excepthook = lambda *a: None",
    "a coroutine": "asyncio.sleep(0)",
    "deterministic": "torch.use_deterministic_algorithms(True)",
    "umask": "os.umask(0o777)",
    "path": "sys.path.clear()",
    "a thread": "__import__('threading').Thread(target=time.sleep, args=(0.1,)).start()",
}
FORWARD = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(256, 10)

    def forward(self, x):
        if {when}:
            {what}
        return self.linear(x.flatten(1))

def make():
    return Net()
"""
# Functions and networks that do not fit the call.
OTHERS = {
    "async": ("async def make():\n    return nn.Linear(256, 10)\n", "async"),
    "generator": ("def make():\n    yield nn.Linear(256, 10)\n", "generator"),
    "syntax": ("def make(:\n", "invalid syntax"),
    "tab": ("def make():\n\tif 1:\n        pass\n", ""),
    "null byte": ("\0", "null bytes"),
    "no function": ("make = 3\n", "no function 'make'"),
    "empty": ("", "no function 'make'"),
    "a module": ("make = os\n", "no function 'make'"),
    "needs arguments": ("def make(depth, width):\n    pass\n", "needs the argument 'depth'"),
    "positional only": ("def make(image_size, /):\n    pass\n", "image_size"),
    "no signature": ("make = max\n", "signature"),
    "closes stdout": ("sys.stdout.close()\n", "stdout"),
    "weights of another kind": (
        "def make():\n    torch.set_default_dtype(torch.float64)\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(256, 10))\n",
        "dtype",
    ),
    "weights nowhere": (
        "def make():\n    torch.set_default_device('meta')\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(256, 10))\n",
        "meta",
    ),
    "getattr raises": ("def __getattr__(name):\n    raise SystemExit(name)\n", ""),
    "imports itself": ("import net\n", "no function 'make'"),
    "imports nothing": ("import nothing_of_this_name\n", "nothing_of_this_name"),
    "a class that raises": (
        "class make(nn.Module):\n    def __init__(self):\n        raise SystemExit(0)\n",
        "SystemExit",
    ),
    "without super": (
        "class make(nn.Module):\n    def __init__(self):\n        self.l = nn.Linear(256, 10)\n",
        "AttributeError",
    ),
    "async forward": (
        "class make(nn.Module):\n    async def forward(self, x):\n        return x.flatten(1)\n",
        "coroutine",
    ),
    "forward in place": (
        FORWARD.format(when="True", what="x.mul_(0.5)"),
        "writes into the images",
    ),
    "eval raises": (
        "class make(nn.Module):\n    def train(self, mode=True):\n        sys.exit(0)\n",
        "SystemExit",
    ),
    "modules raise": (
        "class make(nn.Module):\n"
        "    def named_modules(self, *a, **k):\n        raise KeyError(1)\n",
        "KeyError",
    ),
}
BACKBONE = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, 4, 1), nn.Conv2d(8, 8, 3, 2, 1)
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        {what}
        x = self.second(self.first(x))
        return self.head(x.mean((2, 3)))

"""
# What a function returns for `adapt --backbone`, and what is said of it.
BACKBONES = {
    "nothing": ("return None", "NoneType"),
    "a number": ("return 3", "int"),
    "a class": ("return nn.Linear", "type"),
    "a list": ("return [Net()]", "list"),
    "a state dict": ("return Net().state_dict()", "OrderedDict"),
    "no blocks": ("return nn.Sequential(nn.Flatten(), nn.LazyLinear(10))", ""),
    "no maps": ("return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 10))", ""),
    "one map": ("return nn.Sequential(nn.Conv2d(3, 8, 64), nn.Flatten(), nn.Linear(8, 10))", ""),
    "grey": ("return nn.Sequential(nn.Conv2d(2, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())", ""),
    "meta weights": ("return Net().to('meta')", "meta"),
    "float64": ("return Net().double()", "double"),
    "weights that are no numbers": (
        "n = Net(); nn.init.constant_(n.first.weight, float('nan')); return n",
        "finite",
    ),
}
ATTACK = """
from dataclasses import dataclass
from robustkit.attacks import ATTACKS, Attack

@ATTACKS.register('own')
@dataclass(frozen=True, kw_only=True)
class Own(Attack):
    def perturb(self, model, images, labels, generator, stop_when_fooled):
        {what}
        return images
"""
MAP = """
from robustkit.explain import METHODS, Maps

@METHODS.register('own')
def own(trace, model, settings):
    {what}
    return Maps(trace.model_input.sum(1), {{}})
"""
OBJECTIVE = """
from evolution import MEASURES

@MEASURES.register('own')
def own(net, val):
    {what}
    return 1.0
"""
OWN_OBJECTIVE = ("--objectives", "accuracy:max,own:max")
BLOCK = """
from robustkit.models.blueprint import BLOCKS, Kind

def own(wiring):
    {what}
    return nn.Conv2d(wiring.joined.channels, wiring.out.channels, 1, wiring.block.stride)

BLOCKS.enter('own', Kind(own))
"""
OWN_BLOCK = ("--kinds", "[own]")
PLAIN = ("--data", "digits", "--test-size", "20", "--device", "cpu", "--out", "run")
ATTACKED = ("--attack", "fgsm", "--eps", "0.1", "--probe", "0", *PLAIN)
OFTEN = ("error", "exit", "interrupt", "generator exit", "stop", "base", "memory", "no such file")


def cases() -> Iterator[Case]:
    """Factories, networks and modules of users, each with one thing wrong."""
    for name, what in RAISED.items():
        texts = {
            "call": HEAD + _function(what),
            "import": f"{HEAD}{what}\n",
            "forward": HEAD + FORWARD.format(when="True", what=what),
            "forward of several": HEAD + FORWARD.format(when="len(x) > 1", what=what),
        }
        for when, text in texts.items():
            if name == "memory" and when == "forward of several":
                continue  # smaller batches are tried, as they should be
            yield _refused(f"factory/{when}/{name}", _attacked(text), "net.py")
        late = HEAD + FORWARD.format(when="self.training", what=what)
        if name in OFTEN:
            yield _refused(f"factory/training/{name}", _trained(late), "net.py")
        imported = _with_attack(f"{HEAD}{what}\n")
        yield _refused(f"extend/import/{name}", imported, "--extend own: ")
        used = _with_attack(HEAD + ATTACK.format(what=what))
        # Smaller batches are tried until not even one image fits: the line is the device's.
        says = "" if name == "memory" else "own.py"
        yield _refused(f"extend/attack/{name}", used, says)
        used = _with_map(HEAD + MAP.format(what=what))
        yield _refused(f"extend/map/{name}", used, "own.py")
        if name in ("error", "exit", "base"):
            used = _evolved(HEAD + OBJECTIVE.format(what=what), *OWN_OBJECTIVE)
            yield _refused(f"extend/objective/{name}", used, "own.py")
            used = _evolved(HEAD + BLOCK.format(what=what), *OWN_BLOCK)
            yield _refused(f"extend/block/{name}", used, "own.py")
    used = _evolved(HEAD + OBJECTIVE.format(what=RAISED["base"]), *OWN_OBJECTIVE, *ONE_WORKER)
    yield _refused("extend/objective beside a worker/base", used, "own.py", seconds=200)
    yield from _backbones()
    for name, (what, says) in RETURNED.items():
        text = HEAD + NET + _function(what)
        yield _refused(f"factory/returns/{name}", _attacked(text), "net.py:make", says)
    for name, (text, says) in OTHERS.items():
        yield _refused(f"factory/other/{name}", _attacked(HEAD + text), "net.py", says)
    for name, what in CHANGED.items():
        text = HEAD + NET + _function(f"{what}\n    return Net(lambda y: y)")
        yield _allowed(f"factory/call changes/{name}", _attacked(text))
        text = f"{HEAD}{what}\n{NET}" + _function("return Net(lambda y: y)")
        yield _allowed(f"factory/import changes/{name}", _attacked(text))
        text = f"{HEAD}{what}\n" + ATTACK.format(what="pass")
        yield _allowed(f"extend/import changes/{name}", _with_attack(text))


def _backbones() -> Iterator[Case]:
    """Functions that make the backbone of a detector, or a part of one."""
    for name, what in RAISED.items():
        net = BACKBONE.format(what="pass")
        yield _refused(f"backbone/call/{name}", _adapted(HEAD + net + _function(what)), "net.py")
        yield _refused(f"backbone/import/{name}", _adapted(f"{HEAD}{what}\n"), "net.py")
        if name != "memory":
            net = BACKBONE.format(what=what) + _function("return Net()")
            yield _refused(f"backbone/forward/{name}", _adapted(HEAD + net), "net.py")
    for name, (what, says) in BACKBONES.items():
        net = BACKBONE.format(what="pass") + _function(what)
        # One that loads, and then does not take the detector's images, is named by its kind.
        where = "64 pixels" if name == "no blocks" else "net.py"
        yield _refused(f"backbone/returns/{name}", _adapted(HEAD + net), where, says)
    for name, (text, _) in OTHERS.items():
        # Some that are no classifier of digits may still be a backbone.
        used = _adapted(HEAD + text)
        yield Case(f"backbone/other/{name}", used, ends=EITHER, seconds=120)
    for name, what in CHANGED.items():
        net = BACKBONE.format(what="pass") + _function(f"{what}\n    return Net()")
        used = _adapted(HEAD + net)
        yield Case(
            f"backbone/call changes/{name}", used, ends=(0,), seconds=200, after=_finished_here
        )


def _function(body: str) -> str:
    return f"def make():\n    {body}\n"


def _refused(
    name: str, prepare: Callable[[Place], Sequence[str]], *says: str, seconds: float = 60.0
) -> Case:
    def after(place: Place, ending: Ending) -> str | None:
        missing = [each for each in says if each and each not in ending.err]
        if ending.code == 2 and missing:
            return f"it does not say {missing}: {ending.err}"
        return None

    return Case(name, prepare, after=after, seconds=seconds)


def _allowed(name: str, prepare: Callable[[Place], Sequence[str]]) -> Case:
    return Case(name, prepare, ends=(0,), after=_finished_here)


def _finished_here(place: Place, ending: Ending) -> str | None:
    if ending.code == 0 and not (place.here / "run" / "summary.json").is_file():
        return "the run is not where it was to be"
    return None


def _attacked(text: str) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        place.write("net.py", text)
        return ["attack", "--model", "net.py:make", *ATTACKED]

    return prepare


def _adapted(text: str) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        place.write("net.py", text)
        data = ["--source", "shapes:photo:8?side=64", "--target", "shapes:clipart:8?side=64"]
        flags = ["--backbone", "net.py:make", "--recipe", "source", "--steps", "2"]
        flags += ["--batch-size", "2", "--judge-images", "2", "--judge-steps", "1"]
        flags += ["--executor", "inline", "--workers", "1", "--detector", "tiny_ssd?side=64"]
        return ["adapt", *data, *flags, "--out", "run"]

    return prepare


def _trained(text: str) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        place.write("net.py", text)
        flags = ["--epochs", "1", "--train-size", "100", "--data", "digits", "--device", "cpu"]
        return ["train", "--model", "net.py:make", *flags, "--out", "run"]

    return prepare


def _with_attack(text: str) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        place.write("own.py", text)
        model = str(place.run("train") / "model.safetensors")
        flags = ["--model", model, "--attack", "own", "--eps", "0.1", "--probe", "0", *PLAIN]
        return ["attack", "--extend", "own", *flags]

    return prepare


def _with_map(text: str) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        place.write("own.py", text)
        model = str(place.run("train") / "model.safetensors")
        flags = ["--model", model, "--data", "digits", "--index", "0", "--no-check"]
        flags += ["--device", "cpu", "--out", "run"]
        return ["explain", "--extend", "own", "--method", "own", *flags]

    return prepare


def _evolved(text: str, *flags: str) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        place.write("own.py", text)
        return ["evolve", "--extend", "own", *TINY, *INLINE, *flags, "--out", "run"]

    return prepare
