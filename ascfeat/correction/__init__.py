"""Device spectrum correction: coefficients from parallel recordings, kept with the audit of how they came about."""

from ascfeat.correction.making import Asked, Made, make, reference_devices

__all__ = ["Asked", "Made", "make", "reference_devices"]
