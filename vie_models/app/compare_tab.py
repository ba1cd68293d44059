"""The tab Compare: two encoders on a video, or two videos with an encoder."""

from __future__ import annotations

import math
from typing import Any

import gradio as gr

from . import charts, encoders
from .compare import Comparison
from .studio import PROGRESS, Studio

ENCODERS, VIDEOS = "Two encoders", "Two videos"


class CompareTab:
    """The components of the tab, and what they do."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        names = encoders.names()
        self.what = gr.Radio([ENCODERS, VIDEOS], value=ENCODERS, label="Compare")
        with gr.Row(equal_height=True):
            self.videos = [studio.video_input("Video"), studio.video_input("Other video", visible=False)]
            with gr.Column(min_width=240):
                self.models = [
                    gr.Dropdown(names, value=encoders.DEFAULT, label="Encoder"),
                    gr.Dropdown(names, value="vie_3dresnet_tiny", label="Other encoder"),
                ]
        with gr.Row():
            self.start = gr.Button("Compare", variant="primary")
            self.example = gr.Button("Try an example")
        with gr.Column(visible=False) as self.found:
            self.agreement = gr.Markdown()
            self.matrices = gr.HTML()
            self.cross = gr.HTML()
        on = studio.on
        on(self.what.change, self.change, [self.what], [self.videos[1], self.models[1], self.found], show_progress="hidden")
        rendered = on(self.example.click, self.render, [self.what], self.videos)
        asked = [self.what, *self.videos, *self.models]
        for event in (self.start.click, rendered.success):
            outputs = [self.found, self.agreement, self.matrices, self.cross]
            on(event, self.compare, asked, outputs, show_progress_on=[self.videos[0]])

    def change(self, what: str) -> tuple[Any, Any, Any]:
        """Shows what the choice needs."""
        return gr.File(visible=what == VIDEOS), gr.Dropdown(visible=what == ENCODERS), gr.Column(visible=False)

    def render(self, what: str, progress: gr.Progress = PROGRESS) -> list[str | None]:
        """Returns the paths of the examples."""
        return [self.studio.example(progress, 0), self.studio.example(progress, 1) if what == VIDEOS else None]

    def compare(
        self, what: str, first: str | None, second: str | None, model: str, other: str, progress: gr.Progress = PROGRESS
    ) -> tuple[Any, str, str, str]:
        """Compares, and shows what was found."""
        files = [first, second] if what == VIDEOS else [first]
        if any(file is None for file in files):
            raise ValueError("choose two videos first" if what == VIDEOS else "choose a video first")
        uploads = [self.studio.check(file) for file in files if file]
        models = [model] if what == VIDEOS else [model, other]
        plain = self.studio.call("compare", [str(upload.path) for upload in uploads], models, progress=progress)
        found = Comparison.from_plain(plain)
        labels = ("first video", "other video") if what == VIDEOS else (model, other)
        figures = [
            charts.matrix(m.similarity(key), f"{label}, {key}", m.times, m.times)
            for label, m in zip(labels, (found.first, found.second), strict=True)
            for key in m.embeddings
        ]
        cross = [
            charts.matrix(values, f"first video (down) and other video (right), {key}", found.first.times, found.second.times)
            for key, values in (found.cross if what == VIDEOS else {}).items()
        ]
        return (
            gr.Column(visible=True),
            agreement_table(found, labels, two_videos=what == VIDEOS),
            charts.side_by_side(figures),
            charts.side_by_side(cross),
        )


def agreement_table(found: Comparison, labels: tuple[str, str], two_videos: bool) -> str:
    """Returns how well the matrices agree, as Markdown."""
    columns = list(found.second.embeddings)
    lines = [
        f"| {labels[0]} \\ {labels[1]} | " + " | ".join(columns) + " |",
        "|---|" + "---|" * len(columns),
        *(
            f"| {key} | " + " | ".join("too short" if math.isnan(row[c]) else f"{row[c]:.2f}" for c in columns) + " |"
            for key, row in found.agreement.items()
        ),
    ]
    note = (
        "Spearman's rank correlation of the similarities of all pairs of moments that share no frame (RSA): 1 if both find the "
        "same pairs alike, 0 if they have nothing in common."
    )
    if two_videos:
        note += " Each moment of one video is matched with the one at the same part of the other, so this is for two videos of "
        note += "the same course of events."
    return "\n".join(["## How well they agree", "", *lines, "", note])
