"""unmet LOCK REQUIREMENTS...: which requirements a hash-locked list does not meet on the GH200 (aarch64, Linux, CPython 3.12), as JSON:
the requirement and the version that the list has, null where it names no such package."""
import json
import re
import sys

from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import canonicalize_name

GH200 = {"extra": "", "implementation_name": "cpython", "implementation_version": "3.12.3", "os_name": "posix", "platform_machine": "aarch64",
         "platform_python_implementation": "CPython", "platform_release": "", "platform_system": "Linux", "platform_version": "", "python_full_version": "3.12.3",
         "python_version": "3.12", "sys_platform": "linux"}


def lines(path: str) -> list[str]:
    return [line.split(" #")[0].strip() for line in open(path) if line.strip() and not line.startswith(("#", " ", "-"))]


locked = dict((canonicalize_name(name), version) for name, version in re.findall(r"^([\w.-]+)==([^\s;\\]+)", open(sys.argv[1]).read(), re.M))
unmet = []
for requirement in (Requirement(line) for path in sys.argv[2:] for line in lines(path)):
    version = locked.get(canonicalize_name(requirement.name))
    applies = requirement.marker is None or requirement.marker.evaluate(GH200)
    if applies and (version is None or not requirement.specifier.contains(version, prereleases=True)):
        unmet.append({"requirement": str(requirement), "locked": version})
print(json.dumps(unmet))
