"""The tab Look: one video, one encoder."""

from __future__ import annotations

from typing import Any

import gradio as gr

from . import charts, encoders
from .look import Look, Votes
from .studio import Studio

PATHWAYS = {"appearance": "Alike in appearance", "motion": "Alike in motion", "embedding": "How alike moments are"}
"""Titles of the matrices."""


def build(studio: Studio) -> None:
    """Adds the components and what they do to the page that is being built."""
    with gr.Row(equal_height=True):
        video = studio.video_input("Your video")
        with gr.Column(min_width=240):
            model = gr.Dropdown(encoders.names(), value=encoders.DEFAULT, label="Encoder")
            example = gr.Button("Look at an example")
    state = gr.State(time_to_live=3600)
    with gr.Column(visible=False) as found:
        summary = gr.Markdown()
        timeline = gr.HTML()
        matrices = gr.HTML()
        with gr.Row():
            moment = gr.Slider(0, 1, step=0.1, label="Moment, in seconds", scale=2)
            pathway = gr.Radio(["appearance", "motion"], value="appearance", label="Alike in")
        with gr.Row():
            players = [studio.player(label) for label in ("The moment", "Most alike", "Second")]
        with gr.Row():
            names = gr.Label(label="Names from the memory bank", num_top_classes=5, show_heading=False)
            known = gr.Markdown()

    def look(file: str | None, name: str, progress: gr.Progress = gr.Progress()) -> dict[Any, Any]:  # noqa: B008
        if file is None:
            return {found: gr.Column(visible=False), state: None}
        upload = studio.check(file)
        seen = Look.from_plain(studio.call("look", str(upload.path), name, progress=progress))
        m = seen.moments
        first = seen.standing_out[0]
        return {
            found: gr.Column(visible=True),
            state: (str(upload.path), seen),
            summary: describe(seen, upload.note),
            timeline: charts.timeline(seen.strip, m.times, seen.change, [m.times[k] for k in seen.standing_out], m.duration),
            matrices: '<div class="vie-side">'
            + "".join(
                charts.matrix(m.similarity(key), PATHWAYS[key], (m.times[0], m.times[-1]), (m.times[0], m.times[-1]))
                for key in m.embeddings
            )
            + "</div>",
            moment: gr.Slider(0, max(round(m.duration, 1), 0.1), value=round(float(m.times[first]), 1)),
            pathway: gr.Radio(list(m.embeddings), value=next(iter(m.embeddings)), visible=len(m.embeddings) > 1),
            names: dict(seen.votes.names) or {"no name": 0.0},
            known: about_names(seen.votes),
        }

    def play(
        kept: tuple[str, Look] | None,
        second: float,
        part: str,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> list[Any]:
        if kept is None:
            return [gr.Video(visible=False)] * len(players)
        path, seen = kept
        m = seen.moments
        part = part if part in m.embeddings else next(iter(m.embeddings))
        here = m.nearest_to(second)
        alike = m.alike(here, part, len(players) - 1)
        starts = [m.start(number) for number in (here, *(number for number, _ in alike))]
        files = studio.call("previews", path, starts, str(studio.previews), progress=progress)
        labels = [f"The moment: {m.times[here]:.1f} s", *(f"{m.times[k]:.1f} s, similarity {s:.2f}" for k, s in alike)]
        shown = [gr.Video(value=file, label=label, visible=True) for file, label in zip(files, labels, strict=True)]
        return [*shown, *[gr.Video(visible=False)] * (len(players) - len(shown))]

    outputs = [found, state, summary, timeline, matrices, moment, pathway, names, known]
    rendered = studio.on(example.click, lambda progress=gr.Progress(): studio.example(progress), [], [video])  # noqa: B008
    for event in (video.upload, video.clear, model.change, rendered.success):
        done = studio.on(event, look, [video, model], outputs)
        studio.on(done.success, play, [state, moment, pathway], players)
    for event in (moment.release, pathway.input):
        studio.on(event, play, [state, moment, pathway], players)


def describe(seen: Look, note: str | None) -> str:
    """Returns a line about the video, as Markdown without anything that strangers wrote."""
    m = seen.moments
    parts = [f"{m.duration:.1f} s", f"{len(m.times)} moments"]
    if m.facts.get("width"):
        parts.insert(1, f"{int(m.facts['width'])} x {int(m.facts['height'])}")
    warnings = [f"damaged: {m.damage}"] if m.damage else []
    return "; ".join([", ".join(parts), *warnings, *([note] if note else [])])


def about_names(votes: Votes) -> str:
    """Returns what the names are worth, as Markdown."""
    near = "as near as its rows lie to one another" if votes.nearest >= votes.usual else (
        "farther than its rows lie from one another: **this video is unlike anything in the bank, and the names may all be wrong**"
    )  # fmt: skip
    return (
        f"The bank has {votes.rows:,} rows with {len(votes.known)} names. The row nearest to this video has similarity "
        f"{votes.nearest:.2f} (usual: {votes.usual:.2f} or more), {near}.\n\n"
        f"<details><summary>The names it knows</summary>\n\n{', '.join(votes.known)}\n\n</details>"
    )
