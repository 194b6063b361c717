"""The golden files: segments as bytes, and what readers find in them."""
