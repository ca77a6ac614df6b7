"""From a constitution to training data: rows of questions and answers, and documents about the character it describes."""
