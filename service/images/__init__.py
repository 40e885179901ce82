"""Images from outside: fetched, and decoded in processes of their own."""
