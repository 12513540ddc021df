"""What worked, clustered: k-means++, the ReasoningBank, verdicts."""
