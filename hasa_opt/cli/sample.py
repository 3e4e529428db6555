"""Files to try the commands on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hasa_opt._utils.files import made_directory, writing
from hasa_opt.cli.options import say
from hasa_opt.errors import InputError

__all__ = ["sample"]

_FILES = {
    "clients.csv": """\
name,samples,max_width,device,count:cat,count:dog,count:bird
phone,100,0.5,small,90,5,5
camera,100,0.8,small,10,80,10
laptop,100,0.8,large,30,30,40
sensor,20,0.35,tiny,2,3,15
""",
    "options.csv": """\
device,option,width,epochs,per_sample:kflops,per_client:kilobytes
tiny,skip,0,0,0,0
tiny,narrow,0.25,1,7,80
small,skip,0,0,0,0
small,narrow,0.25,1,7,80
small,half,0.5,1,25,300
large,skip,0,0,0,0
large,half,0.5,1,25,300
large,wide,0.8,2,128,1200
""",
    "worth.csv": """\
name,skip,narrow,half,wide
phone,0,2,3,
camera,0,2,2.4,
laptop,0,,2,4
sensor,0,0.5,,
""",
    "similarity.csv": """\
client,other,similarity
phone,camera,-0.4
phone,laptop,0.7
phone,sensor,-0.2
camera,laptop,-0.5
camera,sensor,0.8
laptop,sensor,-0.6
""",
}

_COMMANDS = (
    "hasa-opt allocate clients.csv --budget 0.5 -o widths.csv",
    "hasa-opt allocate clients.csv --options options.csv --utilities worth.csv "
    "--limit kflops=18000 --limit kilobytes=1800",
    "hasa-opt compare clients.csv",
    "hasa-opt partition similarity.csv",
)


def sample(
    directory: Annotated[Path, typer.Argument(help="Where to write them.")] = Path(),
) -> None:
    """Write small files of clients, options and similarities to try the commands on."""
    known = [name for name in _FILES if (directory / name).exists()]
    if known:
        raise InputError(
            f"{directory / known[0]} exists: name another directory, so that nothing is lost"
        )
    made_directory(directory)
    for name, text in _FILES.items():
        with writing(directory / name) as file:
            file.write(text)
    say(f"wrote {', '.join(_FILES)} in {directory.resolve()}; there try:")
    for command in _COMMANDS:
        say(f"  {command}")
