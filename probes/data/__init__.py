"""From labelled questions to a store of answers, and the store as columns."""
