"""Checker of the annotations of whisperstill's functions under pytest.

beartype with PEP 484's numeric tower: an int is accepted as a float, as in mypy.
"""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
