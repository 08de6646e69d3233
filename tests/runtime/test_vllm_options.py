"""The options of `vllm serve`, asked of vLLM's own parser: components/serving/vllmOptions.ts has them, by tests/fixtures/vllmOptions.json.

RECORD=1 writes the record anew.
"""

import json
import os

from support import HERE, last_json, python

RECORD = HERE.parent / "fixtures/vllmOptions.json"
VERSION = "0.19.0"
PROGRAM = """
import json
from vllm.entrypoints.openai.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
print(json.dumps(sorted(option for action in make_arg_parser(FlexibleArgumentParser())._actions for option in action.option_strings)))
"""


def test_the_record_is_vllms_own_parser():
    options = last_json(python("-c", PROGRAM, torch="2.10.0", vllm=VERSION, nvml=True))
    text = json.dumps({"made by": "RECORD=1 tests/runtime/run -k vllm_options", "vllm": VERSION, "options": options}, indent=1) + "\n"
    if os.environ.get("RECORD"):
        RECORD.write_text(text)
    assert RECORD.read_text() == text
