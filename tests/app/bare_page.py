"""A page with an upload and nothing else, behind the guard: `python bare_page.py [USER PASSWORD]`."""

import os
import sys
from pathlib import Path

from vie_models.app.guard import launch_options
from vie_models.app.uploads import Uploads, private_folder
from vie_models.app.worker import Worker

if __name__ == "__main__":
    folder = private_folder()
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    import gradio as gr

    uploads = Uploads(Worker(), folder)

    def look(path: str) -> str:
        try:
            return str(uploads.check(path))
        except ValueError as error:
            raise gr.Error(str(error)) from None

    with gr.Blocks(analytics_enabled=False) as page:
        file, text = gr.File(label="video"), gr.Textbox(label="facts")
        file.upload(look, file, text, api_name="look")
    login = (sys.argv[1], sys.argv[2]) if len(sys.argv) > 2 else None
    folders = tuple(Path(path) for path in os.environ.get("FOLDERS", "").split(":") if path)
    page.queue(max_size=64).launch(**launch_options(uploads, login=login, folders=folders))
