"""Judges: rubrics of ours as files, strict reading of what a judge says, and judges by rule for dry runs."""
