"""Numbers with a unit and a range: the field types that every schema shares."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

Hertz = Annotated[float, Field(ge=0)]
"""A frequency in Hz."""

Seconds = Annotated[float, Field(gt=0)]
"""A duration in seconds."""

Count = Annotated[int, Field(ge=0)]
"""How many of something, zero included."""

Size = Annotated[int, Field(ge=1, le=2**40)]
"""An extent or a number of samples, at least one."""

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A SHA-256 in hexadecimal."""

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]{0,99}$")]
"""A name that is safe as a file name on every system: no separators, no leading dot, 100 characters."""

Fraction = Annotated[float, Field(ge=0, le=1)]
"""A share between 0 and 1."""

Positive = Annotated[float, Field(gt=0)]
"""A number above 0."""

NotNegative = Annotated[float, Field(ge=0)]
"""A number that is at least 0."""
