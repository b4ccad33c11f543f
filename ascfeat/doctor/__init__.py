"""The dataset doctor: every recording and split examined before any compute."""

from ascfeat.doctor.examination import check, examine

__all__ = ["check", "examine"]
