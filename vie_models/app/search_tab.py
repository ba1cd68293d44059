"""The tab Search: moments of a folder of features that are like a moment of a video."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from . import charts
from .studio import PROGRESS, Studio

MOST, COUNT = 12, 6
"""Most results, and how many there are at first."""
PICTURES, SHOWN = 48, 10
"""Pictures of the video that are kept to show while a moment is dragged, and those in the strip."""
SHORT_SIDE = 120
Kept = tuple[str, str, float, list[str]]
"""What the page remembers: the path of the video, and of the upload; its length in seconds; and pictures of it, as
`charts.picture` makes them."""
WITHOUT = """
## No features to search in

Make some, and start the page with their folder:

    vie extract vie_twopathway_tiny videos/ --stride 1.0 -o features/
    vie app features/
"""


class SearchTab:
    """The components of the tab, and what they do."""

    def __init__(self, studio: Studio, features: Path | None) -> None:
        self.studio, self.features = studio, features
        if features is None:
            gr.Markdown(WITHOUT)
            return
        moments, videos, model, by = studio.call("about_index", str(features))
        gr.Markdown(f"Searches {moments:,} moments of {videos:,} videos, as {model} sees them.")
        with gr.Row():
            self.video = studio.video_input("What to search for")
            with gr.Column(min_width=240):
                self.by = gr.Radio(by, value=by[0], label="Alike in", visible=len(by) > 1)
                self.example = gr.Button("Try an example", variant="primary")
        self.kept = gr.State(time_to_live=3600)
        with gr.Column(visible=False) as self.chosen:
            self.film = gr.HTML(js_on_load=charts.PICK)
            with gr.Row():
                self.start = gr.Slider(0, 1, step=0.1, label="The moment starts at, in seconds", buttons=[], min_width=260)
                self.length = gr.Slider(0.5, 10, value=2.5, step=0.1, label="Length, in seconds", buttons=[], min_width=260)
            self.preview = gr.HTML()
            with gr.Row(equal_height=True):
                self.count = gr.Slider(1, MOST, value=COUNT, step=1, label="Results", buttons=[], min_width=260)
                self.button = gr.Button("Search", variant="primary", min_width=260)
        with gr.Row(visible=False, elem_classes="vie-results") as self.results:
            self.players = [studio.player(f"Result {number}") for number in range(1, MOST + 1)]
        self.note = gr.Markdown(visible=False)
        self.wire()

    def wire(self) -> None:
        """Connects the components with what they do."""
        on = self.studio.on
        rendered = on(self.example.click, self.render, [], [self.video])
        opened = [self.chosen, self.results, self.kept, self.film, self.start, self.length, self.preview]
        moment = [self.kept, self.start, self.length]
        asked = [*moment, self.by, self.count]
        outputs = [self.results, *self.players, self.note]
        for event in (self.video.upload, self.video.clear, rendered.success):
            done = on(event, self.open, [self.video], opened, show_progress_on=[self.video])
            on(done.success, self.search, asked, outputs, show_progress_on=[self.button])
        for slider in (self.start, self.length):
            on(slider.change, self.show, moment, [self.preview], show_progress="hidden", trigger_mode="always_last")
        for event in (self.start.release, self.length.release, self.by.input, self.count.release, self.button.click):
            on(event, self.search, asked, outputs, show_progress_on=[self.button], trigger_mode="always_last")
        clicked = on(self.film.select, self.pick, [self.length], [self.start], show_progress="hidden")
        on(clicked.success, self.search, asked, outputs, show_progress_on=[self.button], trigger_mode="always_last")

    def render(self, progress: gr.Progress = PROGRESS) -> str:
        """Returns the path of the example."""
        return self.studio.example(progress)

    def open(self, file: str | None, progress: gr.Progress = PROGRESS) -> dict[Any, Any]:
        """Shows the video from left to right, to choose a moment."""
        if file is None:
            return {self.chosen: gr.Column(visible=False), self.results: gr.Row(visible=False), self.kept: None}
        upload = self.studio.check(file)
        found = self.studio.call("strip", str(upload.path), PICTURES, SHORT_SIDE, progress=progress)
        duration, pictures = float(found["duration"]), found["pictures"]
        kept = (str(upload.path), str(upload.sent), duration, [charts.picture(one, "jpeg") for one in pictures])
        length = round(min(2.5, max(duration, 0.5)), 1)
        start = round(max(duration - length, 0) * 0.4, 1)
        shown = [pictures[k] for k in np.linspace(0, PICTURES - 1, SHOWN).round().astype(int)]
        return {
            self.chosen: gr.Column(visible=True),
            self.kept: kept,
            self.film: charts.film(shown, duration),
            self.start: gr.Slider(0, max(round(duration - 0.1, 1), 0.1), value=start),
            self.length: length,
            self.preview: self.show(kept, start, length),
        }

    def show(self, kept: Kept | None, start: float, length: float) -> str:
        """Shows pictures of the chosen moment: of its beginning, middle and end."""
        if kept is None:
            return ""
        _, _, duration, pictures = kept
        end = min(start + length, duration)
        seconds = np.linspace(start, end, 3)
        numbers = np.clip(seconds / max(duration, 1e-6) * len(pictures), 0, len(pictures) - 1).astype(int)
        title = f"The moment: {start:.1f} to {end:.1f} s"
        return charts.pictures([pictures[k] for k in numbers], title, "The moment to search for")

    def pick(self, length: float, event: gr.EventData) -> float:
        """Returns where the moment starts whose middle a click picked."""
        return round(max(float(event._data["value"]) - length / 2, 0.0), 1)

    def search(
        self,
        kept: Kept | None,
        start: float,
        length: float,
        by: str,
        count: int,
        progress: gr.Progress = PROGRESS,
    ) -> list[Any]:
        """Searches, and shows what was found in players."""
        if kept is None:
            return [gr.Row(visible=False), *in_players([], MOST)]
        path, sent, duration, _ = kept
        length = min(length, max(duration - start, 0.1))
        asked = (str(self.features), path, sent, start, length, by, int(min(count, MOST)), str(self.studio.previews))
        found = self.studio.call("search", *asked, progress=progress)
        return [gr.Row(visible=True), *in_players(found, MOST)]


def in_players(found: list[dict[str, Any]], count: int) -> list[Any]:
    """Returns what `count` players show of what a search found, and a note on what has no preview."""
    shown = [
        gr.Video(value=one["preview"], visible=True, label=f"{one['similarity']:.2f}  {one['name']}, {one['start']:.1f} s")
        for one in found
    ]
    lost = {one["name"]: one["reason"] for one in found if one["reason"]}
    note = "Without a player: " + "; ".join(f"`{name.replace('`', '')}` {reason}" for name, reason in lost.items())
    hidden = gr.Video(value=None, visible=False)
    return [*shown, *[hidden] * (count - len(shown)), gr.Markdown(note, visible=bool(lost))]
