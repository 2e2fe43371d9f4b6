"""What pip is configured to use, said in uv's variables.

uv reads neither pip's configuration files nor its PIP_* variables, so on a machine with a private
index, a folder of wheels or its own certificate it would look in the wrong place. Standard library
only: the launcher uses this before anything is installed.
"""

import configparser
import os
import sys
from pathlib import Path

# pip's option -> uv's variable, and what separates several values there
SINGLE = {"index-url": "UV_DEFAULT_INDEX", "cert": "SSL_CERT_FILE", "proxy": "HTTPS_PROXY"}
SEVERAL = {
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "constraint": ("UV_CONSTRAINT", " "),
}
# uv's older names of the same settings: a user who has set one of them has decided
SYNONYMS = {"UV_DEFAULT_INDEX": "UV_INDEX_URL", "UV_INDEX": "UV_EXTRA_INDEX_URL"}


def uv_environment(environ):
    """A copy of `environ` in which uv knows what pip knows. What uv has already stays."""
    pip = pip_settings(environ)
    result = dict(environ)

    def tell(variable, value):
        already_said = variable in environ or SYNONYMS.get(variable, variable) in environ
        if value and not already_said:
            result[variable] = value

    for option, variable in SINGLE.items():
        tell(variable, pip.get(option))
    for option, (variable, separator) in SEVERAL.items():
        values = pip.get(option, "").split()
        if option == "find-links":  # of a missing folder pip only warns, at one uv stops
            values = [v for v in values if "://" in v or Path(v).is_dir()]
        tell(variable, separator.join(values))
    if result.get("UV_INDEX") or result.get("UV_EXTRA_INDEX_URL"):
        # pip takes the best version of all indexes, uv stops at the first index that has the name
        tell("UV_INDEX_STRATEGY", "unsafe-best-match")
    return result


def uv_flags(environ):
    """The flags of `uv pip install` for settings of pip that uv has no variable for."""
    no_index = pip_settings(environ).get("no-index", "").lower() in ("1", "true", "yes", "on")
    return ["--no-index"] if no_index else []


def pip_settings(environ):
    """pip's options by their long names, from its files and then, stronger, from PIP_* variables."""
    settings: dict[str, str] = {}
    for path in config_files(environ):
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue  # pip will complain of it; it is no reason to stop here
        for section in ("global", "install"):
            if parser.has_section(section):
                settings.update((k.replace("_", "-"), v) for k, v in parser.items(section))
    for name, value in environ.items():
        if name.startswith("PIP_") and value:
            settings[name[len("PIP_") :].lower().replace("_", "-")] = value
    return settings


def config_files(environ):
    """pip's configuration files in the order in which pip reads them."""
    chosen = environ.get("PIP_CONFIG_FILE")
    if chosen == os.devnull:
        return []
    home = Path(environ.get("HOME") or Path.home())
    config_home = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    system = [d for d in environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":") if d]
    files = [Path(d) / "pip" / "pip.conf" for d in system]
    files.append(Path("/etc/pip.conf"))
    files.append(home / ".pip" / "pip.conf")
    if sys.platform == "darwin":
        files.append(home / "Library" / "Application Support" / "pip" / "pip.conf")
    files.append(config_home / "pip" / "pip.conf")
    files.append(Path(sys.base_prefix) / "pip.conf")
    if chosen:
        files.append(Path(chosen))
    return [path for path in files if path.is_file()]
