"""The shapes at the edge: what requests may say and responses say."""
