"""The official conformance suite of MCP against the HTTP server: what applies to a server of its own kind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from http_support import http_server
from support import Account

# These want what rawtap does not say that it has: log messages, completions, questions to the client's user or model.
NOT_OFFERED = ["logging-set-level", "completion-complete", "tools-call-sampling", "tools-call-elicitation"]
NOT_OFFERED += ["tools-call-with-logging", "elicitation-sep1034-defaults", "elicitation-sep1330-enums"]
# These call tools, read resources and get prompts of the suite's example server.
OF_ITS_EXAMPLE = ["tools-call-image", "tools-call-audio", "tools-call-embedded-resource", "tools-call-mixed-content"]
OF_ITS_EXAMPLE += ["tools-call-with-progress", "json-schema-2020-12", "server-sse-polling", "resources-read-text"]
OF_ITS_EXAMPLE += ["resources-read-binary", "resources-templates-read", "resources-subscribe", "resources-unsubscribe"]
OF_ITS_EXAMPLE += ["prompts-get-simple", "prompts-get-with-args", "prompts-get-embedded-resource"]
OF_ITS_EXAMPLE += ["prompts-get-with-image"]
APPLIES = {"server-initialize", "ping", "tools-list", "tools-call-simple-text", "tools-call-error", "resources-list"}
APPLIES |= {"prompts-list", "server-sse-multiple-streams", "dns-rebinding-protection"}


def test_the_conformance_suite_fails_in_what_is_not_offered_and_in_nothing_else(user: Account, tmp_path: Path) -> None:
    environment = Path(sys.prefix)
    suite = environment / "conformance/node_modules/.bin/conformance"
    with_token = ["--require", Path(__file__).with_name("conformance_token.cjs")]
    expected = tmp_path / "expected.yml"
    expected.write_text(json.dumps({"server": NOT_OFFERED + OF_ITS_EXAMPLE}), encoding="ascii")  # JSON is YAML
    with http_server(user) as server:
        done = subprocess.run(
            [
                *(environment / "bin/node", *with_token, suite, "server", "--url", server.url),
                *("--suite", "all", "--expected-failures", expected),
            ],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"RAWTAP_TOKEN": server.token},
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(re.findall(r"^✓ ([\w-]+): [1-9]\d* passed, 0 failed", done.stdout, re.MULTILINE)) == APPLIES
