"""What checks the annotations of whisperstill's functions under pytest.

beartype, told that an int may stand where a float is asked for (PEP 484's numeric tower), as mypy sees it too.
"""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
