from __future__ import annotations

import pytest

from tests.client.rig import Web


@pytest.fixture
def web() -> Web:
    return Web()
