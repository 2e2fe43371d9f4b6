"""Runs a script of scripts/ and notes what of the project it uses, a line each: `call FILE FUNCTION`, and `open FILE`.

    python traced.py NOTES SCRIPT [arguments of the script ...]

Of the environments that jobs have: standard library only. It notes what the process does that the script starts for its work, too.
"""

import fcntl
import inspect
import os
import runpy
import sys
import threading

notes, script, *arguments = sys.argv[1:]
scripts = os.path.dirname(os.path.abspath(script))
project = os.path.dirname(scripts) + os.sep
# Not descriptor 3, on which jobs speak to whoever waits.
handle = fcntl.fcntl(os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND), fcntl.F_DUPFD, 100)
seen = set()


def note_call(frame, event, _argument):
    code = frame.f_code
    # Not the body of a class, which importing its module runs.
    if event == "call" and code.co_flags & inspect.CO_OPTIMIZED and code not in seen and code.co_filename.startswith(scripts):
        seen.add(code)
        os.write(handle, f"call {code.co_filename} {code.co_qualname}\n".encode())


def note_open(event, arguments):
    if event == "open" and isinstance(arguments[0], str):
        path = os.path.abspath(arguments[0])
        if path.startswith(project) and not path.startswith(scripts):
            os.write(handle, f"open {path}\n".encode())


sys.addaudithook(note_open)
sys.setprofile(note_call)
threading.setprofile(note_call)
sys.argv, sys.path[0] = [script, *arguments], scripts
runpy.run_path(os.path.abspath(script), run_name="__main__")
