"""Rewards for GRPO in trl's form, one a task family, and the judges that some of them ask."""
