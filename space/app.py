"""The page as a Hugging Face Space. The Space decides who may see it, and its proxy stands before it."""

import os

from vie_models.app.serve import serve

if __name__ == "__main__":
    serve(host="0.0.0.0", port=int(os.environ.get("PORT", "7860")), proxied=True, max_bytes=100e6, max_seconds=120)
