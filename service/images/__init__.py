"""An image from outside, decoded in processes of its own."""
