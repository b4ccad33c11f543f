"""The contract: pydantic models that every other package agrees on; no numpy, torch or zarr."""
