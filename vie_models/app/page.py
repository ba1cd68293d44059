"""The page: its tabs, its looks, and the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from .compare_tab import CompareTab
from .look_tab import LookTab
from .search_tab import SearchTab
from .studio import Studio

CSS = Path(__file__).with_name("page.css")
TITLE = "What a video encoder sees"
KEYS = """
() => {
  let waiting;
  document.addEventListener('keyup', event => {
    if (!event.target.matches('input[type=range]')) return;
    clearTimeout(waiting);
    waiting = setTimeout(() => event.target.dispatchEvent(new PointerEvent('pointerup', {bubbles: true})), 400);
  });
}
"""
"""Script of the page: a slider that was moved with the keyboard counts as released, as one that was dragged does."""


def build_page(studio: Studio, features: Path | None = None) -> gr.Blocks:
    """Returns the page, to be launched with `looks()`.

    Args:
        studio: the worker and the uploads.
        features: a folder of features to search in.
    """
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, int(studio.uploads.keep_seconds))) as page:
        gr.Markdown(f"# {TITLE}")
        with gr.Tabs():
            with gr.Tab("Look"):
                LookTab(studio, features)
            with gr.Tab("Search"):
                SearchTab(studio, features)
            with gr.Tab("Compare"):
                CompareTab(studio)
    page.queue(max_size=32)
    return page


def looks() -> dict[str, Any]:
    """Returns the theme and the style of the page. All fonts are the visitor's own."""
    theme = gr.themes.Default(
        primary_hue="indigo",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    ).set(  # the defaults, one step lighter, have too little contrast to white
        color_accent="*primary_600",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_700",
        slider_color="*primary_600",
    )
    return {"theme": theme, "css_paths": [CSS], "footer_links": [], "js": KEYS}
