"""``mtrrzap policies``: the zap policies in words."""

import sys
from typing import Annotated

import typer

from mtrrzap.cli.options import JsonOption, with_options
from mtrrzap.errors import UserError
from mtrrzap.kvm.policy import OLDER, POLICIES
from mtrrzap.report import text
from mtrrzap.report.policies import COLUMNS, cells, markdown


@with_options
def policies(
    *,
    json: JsonOption = False,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print docs/policies.md.")
    ] = False,
) -> None:
    """Say what each policy zaps and when: KVM versions, the rows of the series, the review."""
    every = (*POLICIES, *OLDER)
    if json and as_markdown:
        raise UserError("--json and --markdown cannot be combined", mend="choose one")
    if as_markdown:
        sys.stdout.write(markdown(every))
    elif json:
        found = [
            dict(zip(COLUMNS, cells(p), strict=True)) | {"needs": p.needs.value, "source": p.source}
            for p in every
        ]
        sys.stdout.write(text.as_json(found))
    else:
        text.print_table(text.console(), COLUMNS, map(cells, every), ruled=True)
