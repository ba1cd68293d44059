"""The tab Look: one video, one encoder."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import gradio as gr

from . import charts, encoders
from .look import Look, Votes
from .search_tab import in_players
from .studio import PROGRESS, Studio

TITLES = {"appearance": "Alike in appearance", "motion": "Alike in motion", "embedding": "How alike moments are"}
"""Titles of the matrices."""
ALL_CHANNELS = -1
VIDEOS = 3
"""Videos of the features that are shown beside the visitor's."""
Kept = tuple[str, str, Look]
"""What the page remembers: the path of the video, and of the upload; and what was found."""


class LookTab:
    """The components of the tab, and what they do."""

    def __init__(self, studio: Studio, features: Path | None) -> None:
        self.studio, self.features = studio, features
        with gr.Row(equal_height=True):
            self.video = studio.video_input("Your video")
            with gr.Column(min_width=240):
                self.model = gr.Dropdown(encoders.names(), value=encoders.DEFAULT, label="Encoder")
                self.example = gr.Button("Try an example", variant="primary")
        self.kept = gr.State(time_to_live=3600)
        self.hint = gr.Markdown(
            "Drop a video. You see how alike its moments are, in appearance and in motion, where in the picture the encoder "
            "looks, and what its memory calls the video.",
            elem_classes="vie-hint",
        )
        with gr.Column(visible=False) as self.found:
            self.summary = gr.Markdown(elem_classes="vie-summary")
            self.timeline = gr.HTML(js_on_load=charts.PICK)
            self.matrices = gr.HTML(js_on_load=charts.PICK)
            gr.Markdown("## A moment, and moments like it\nClick on a chart, drag, or choose one that stands out.")
            with gr.Row():
                self.moment = gr.Slider(0, 1, step=0.1, label="Moment, in seconds", buttons=[], scale=2, min_width=260)
                self.standing_out = gr.Radio([], label="Moments that stand out", scale=2, min_width=260)
                self.pathway = gr.Radio(["appearance", "motion"], value="appearance", label="Alike in", min_width=200)
            with gr.Row():
                self.players = [studio.player(label) for label in ("The moment", "Most alike", "Second")]
            self.match = gr.HTML()
            if features is not None:
                gr.Markdown(
                    "## The nearest videos of your features\nEach plays its moment that is most like your whole video, as the "
                    "encoder that made the features sees them."
                )
                with gr.Row(elem_classes="vie-nearest"):
                    self.nearest = [studio.player(f"Video {number}") for number in range(1, VIDEOS + 1)]
                self.lost = gr.Markdown(visible=False)
            gr.Markdown("## What a layer responds to")
            with gr.Row():
                self.layer = gr.Dropdown([], label="Layer", min_width=200)
                self.channel = gr.Dropdown([("all", ALL_CHANNELS)], value=ALL_CHANNELS, label="Channel", min_width=200)
            self.response = gr.HTML()
            gr.Markdown("## Names from the memory bank")
            with gr.Row():
                self.names = gr.Label(label="Share of the votes", num_top_classes=5, show_heading=False, min_width=260)
                with gr.Column(min_width=260):
                    self.known = gr.Markdown()
        self.wire()

    def wire(self) -> None:
        """Connects the components with what they do."""
        on = self.studio.on
        outputs = [
            self.hint, self.found, self.kept, self.summary, self.timeline, self.matrices, self.moment, self.standing_out,
            self.pathway, self.layer, self.channel, self.names, self.known,
        ]  # fmt: skip
        rendered = on(self.example.click, self.render, [], [self.video])

        def look(event: Any) -> Any:
            done = on(event, self.look, [self.video, self.model], outputs, show_progress_on=[self.video])
            return self.show(done.success)

        look(self.model.change)
        for event in (self.video.upload, self.video.clear, rendered.success):
            shown = look(event)
            if self.features is not None:
                on(shown.then, self.find, [self.kept], [*self.nearest, self.lost])
        for event in (self.moment.release, self.pathway.input):
            self.show(event)
        for event in (self.timeline.select, self.matrices.select):
            self.show(on(event, picked, [], [self.moment], show_progress="hidden").success)
        self.show(on(self.standing_out.input, float, [self.standing_out], [self.moment], show_progress="hidden").success)
        asked = [self.kept, self.moment, self.layer, self.channel]
        on(self.channel.input, self.respond, asked, [self.response], trigger_mode="always_last")
        every = on(self.layer.input, lambda: ALL_CHANNELS, [], [self.channel], show_progress="hidden")
        self.respond_and_name(every.success)

    def show(self, event: Any) -> Any:
        """After an event, shows the chosen moment in all ways. Returns the last of them."""
        chosen = [self.kept, self.moment, self.pathway]
        played = self.studio.on(event, self.play, chosen, self.players, trigger_mode="always_last")
        matched = self.studio.on(played.success, self.explain, chosen, [self.match])
        return self.respond_and_name(matched.then)

    def respond_and_name(self, event: Any) -> Any:
        """After an event, shows what the layer responds to, and offers its strongest channels."""
        asked = [self.kept, self.moment, self.layer, self.channel]
        return self.studio.on(event, self.respond_with_channels, asked, [self.response, self.channel])

    def render(self, progress: gr.Progress = PROGRESS) -> str:
        """Returns the path of the example."""
        return self.studio.example(progress)

    def look(self, file: str | None, name: str, progress: gr.Progress = PROGRESS) -> dict[Any, Any]:
        """Looks at the video and shows what was found."""
        if file is None:
            return {self.found: gr.Column(visible=False), self.hint: gr.Markdown(visible=True), self.kept: None}
        upload = self.studio.check(file)
        seen = Look.from_plain(self.studio.call("look", str(upload.path), name, progress=progress))
        m = seen.moments
        standing = [round(float(m.times[k]), 1) for k in seen.standing_out]
        figures = [charts.matrix(m.similarity(key), TITLES[key], m.times, m.times) for key in m.embeddings]
        return {
            self.hint: gr.Markdown(visible=False),
            self.found: gr.Column(visible=True),
            self.kept: (str(upload.path), str(upload.sent), seen),
            self.summary: describe(seen, upload.note),
            self.timeline: charts.timeline(seen.strip, m.times, seen.change, standing, m.duration),
            self.matrices: charts.side_by_side(figures) if len(m.times) > 1 else "",  # one square says nothing
            self.moment: gr.Slider(0, max(round(m.duration, 1), 0.1), value=standing[0]),
            self.standing_out: gr.Radio([(f"{second:.1f} s", second) for second in standing], value=standing[0]),
            self.pathway: gr.Radio(list(m.embeddings), value=next(iter(m.embeddings)), visible=len(m.embeddings) > 1),
            self.layer: gr.Dropdown(seen.layers, value=seen.layers[len(seen.layers) // 4]),
            self.channel: ALL_CHANNELS,
            self.names: gr.Label(value=dict(seen.votes.names), visible=bool(seen.votes.names)),
            self.known: about_names(seen.votes),
        }

    def play(self, kept: Kept | None, second: float, part: str, progress: gr.Progress = PROGRESS) -> list[gr.Video]:
        """Shows the moment and the two most like it."""
        hidden = gr.Video(value=None, visible=False)
        if kept is None:
            return [hidden] * len(self.players)
        path, _, seen = kept
        m = seen.moments
        here = m.nearest_to(second)
        alike = m.alike(here, checked(part, seen), len(self.players) - 1)
        starts = [m.start(number) for number in (here, *(number for number, _ in alike))]
        files = self.studio.call("previews", path, starts, str(self.studio.previews), progress=progress)
        values = m.similarity(checked(part, seen))
        span = float(values.max() - values.min())
        like = [f"{m.times[k]:.1f} s: similarity {charts.number(s, span)}" for k, s in alike]
        labels = [f"The moment: {m.times[here]:.1f} s", *like]
        shown = [gr.Video(value=file, label=label, visible=True) for file, label in zip(files, labels, strict=True)]
        return [*shown, *[hidden] * (len(self.players) - len(shown))]

    def find(self, kept: Kept | None, progress: gr.Progress = PROGRESS) -> list[Any]:
        """Shows the videos of the features that are most like this one."""
        if kept is None:
            return in_players([], VIDEOS)
        path, sent, seen = kept
        asked = (str(self.features), path, sent, 0.0, seen.moments.duration, "both", VIDEOS, str(self.studio.previews), True)
        return in_players(self.studio.call("search", *asked, progress=progress), VIDEOS)

    def explain(self, kept: Kept | None, second: float, part: str, progress: gr.Progress = PROGRESS) -> str:
        """Shows where the match of the moment and the one most like it lies."""
        if kept is None:
            return ""
        path, _, seen = kept
        m, part = seen.moments, checked(part, seen)
        here = m.nearest_to(second)
        alike = m.alike(here, part, 1)
        if not alike:
            return "<p>The video has no other moment to compare with.</p>"
        times = [float(m.times[number]) for number in (here, alike[0][0])]
        found = self.studio.call("match", path, *times, m.model, part, progress=progress)
        text = "Pixels that the similarity depends on"
        rows = [
            charts.pictures(found[key], f"{text}: {time:.1f} s", f"{text}, at {time:.1f} seconds")
            for key, time in zip(("first", "second"), times, strict=True)
        ]
        return charts.side_by_side(rows)

    def respond(self, kept: Kept | None, second: float, layer: str, channel: int, progress: gr.Progress = PROGRESS) -> str:
        """Shows what a layer responds to at the moment."""
        return self.respond_with_channels(kept, second, layer, channel, progress)[0]

    def respond_with_channels(
        self, kept: Kept | None, second: float, layer: str, channel: int, progress: gr.Progress = PROGRESS
    ) -> tuple[str, gr.Dropdown]:
        """As `respond`; and the channels that vary most there."""
        if kept is None or layer is None:
            return "", gr.Dropdown()
        path, _, seen = kept
        time = float(seen.moments.times[seen.moments.nearest_to(second)])
        number = None if channel in (None, ALL_CHANNELS) else int(channel)
        found = self.studio.call("layer", path, time, seen.moments.model, layer, number, progress=progress)
        size = " x ".join(map(str, found["shape"]))
        title = f"{layer} at {time:.1f} s: {size} (channels x time x height x width)"
        channels = [("all", ALL_CHANNELS), *((f"channel {k}", k) for k in found["strongest"])]
        if number is not None and number not in found["strongest"]:
            channels.append((f"channel {number}", number))
        return charts.pictures(found["pictures"], title, f"Where {layer} responds"), gr.Dropdown(channels)


def picked(event: gr.EventData) -> float:
    """Returns the time that a click on a chart picked."""
    return round(float(event._data["value"]), 1)


def checked(part: str | None, seen: Look) -> str:
    """Returns the chosen pathway, or the first if the encoder has another set."""
    return part if part in seen.moments.embeddings else next(iter(seen.moments.embeddings))


def describe(seen: Look, note: str | None) -> str:
    """Returns a line about the video, without anything that strangers wrote."""
    m = seen.moments
    facts = [f"{m.duration:.1f} s"]
    if m.facts.get("width"):
        facts.append(f"{int(m.facts['width'])} x {int(m.facts['height'])} pixels")
    facts.append(f"{len(m.times)} moment{'s' * (len(m.times) > 1)} of {m.window:.2f} s")
    line = ", ".join(facts)
    if m.damage:
        line += f". **Damaged:** {html.escape(m.damage)}"
    return f"{line}. {note[:1].upper() + note[1:]}." if note else f"{line}."


def about_names(votes: Votes) -> str:
    """Returns what the names are worth, as Markdown."""
    known = ", ".join(html.escape(name) for name in votes.known)
    if votes.names:
        said = "In a test with videos of known and unknown classes, about 80 % of the names with so many votes were right."
    else:
        said = f"**No name: at most {votes.agreement:.0%} of the votes agree**, and a name needs {votes.least:.0%}."
    return (
        f"{said} The bank holds the {votes.rows:,} videos and photographs that the encoder learned from. The nearest one has "
        f"similarity {votes.nearest:.2f}.\n\n"
        f"<details><summary>The {len(votes.known)} names it knows</summary>\n\n{known}\n\n</details>"
    )
