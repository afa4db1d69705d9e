"""An answer is the same without token filters, and says that they are missing."""

from __future__ import annotations

import shutil

from ashiato.core.query import Query, Term
from ashiato.core.table import uids
from tests.unit.query.house import NOON, House, container, cri

WEB = container("web-1")
LATE = Query(where=Term(field="", value="late"))


async def test_an_answer_without_filters_is_the_same_and_says_so(house: House) -> None:
    # given committed lines
    web = await house.born(WEB)
    await house.send(web, cri("too late", start=NOON))
    await house.beat(web)
    await house.commit()
    whole = await house.engine().search(LATE)
    assert not any("filters" in finding for finding in whole.coverage.findings)
    # when what is beside the packs is gone
    shutil.rmtree(house.root / "archive" / "work" / "filters")
    answer = await house.engine().search(LATE)
    # then nothing is missing
    assert uids(answer.rows) == uids(whole.rows)
    assert answer.rows.num_rows == 1
    assert any("no sound filters" in finding for finding in answer.coverage.findings)
