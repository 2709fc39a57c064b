"""Code that leaves a file behind when it is run, in every form in which a file could smuggle it in."""

import os
import pickle


class Canary:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def module(path):
    """A Python module that makes the file when it is imported."""
    return f"open({str(path)!r}, 'w').close()\nraise OSError('the code was run')\n"


def pickled(path, **values):
    return pickle.dumps({**values, "evil": Canary(path)})
