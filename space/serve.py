"""The page as a Hugging Face Space. The Space decides who may see it, and its proxy stands before it."""

import os

from vie_models.app import serve

if __name__ == "__main__":
    serve(port=int(os.environ.get("PORT", "7860")), proxied=True, browser=False, max_bytes=100e6)
