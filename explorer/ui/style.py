"""Colours with one meaning everywhere, and the few rules that Streamlit's theme does not cover."""

from __future__ import annotations

import json

import streamlit as st

from explorer.figures.palette import DARK, LIGHT, Palette

from .i18n import _, language


def is_dark() -> bool:
    """Whether the viewer's theme is dark."""
    return getattr(st.context.theme, "type", "light") == "dark"


def colours() -> Palette:
    """The colours of the viewer's theme."""
    return DARK if is_dark() else LIGHT


def inject() -> None:
    """Tighten the page and style the scoreboard. Colours follow the theme through custom properties."""
    c = colours()
    variables = ";".join(f"--x-{name}:{value}" for name, value in vars(c).items())
    st.html(f"<style>:root{{{variables}}}\n{CSS}{uploader()}</style>")


def uploader() -> str:
    """The rules that put words of the visitor's language in the place of the toolkit's own English ones, which it cannot be told."""
    if language() == "en":
        return ""
    most = _("up to {n} MB a file", n=st.get_option("server.maxUploadSize"))
    return UPLOADER % (json.dumps(_("Upload"), ensure_ascii=False), json.dumps(most, ensure_ascii=False))


UPLOADER = """
[data-testid='stFileUploaderDropzone'] button p, [data-testid='stFileUploaderDropzoneInstructions'] span { display: none; }
[data-testid='stFileUploaderDropzone'] button [data-testid='stMarkdownContainer']::after { content: %s; font-size: .9rem; }
[data-testid='stFileUploaderDropzoneInstructions']::after { content: %s; font-size: .875rem; color: var(--x-faint); }
"""

CSS = """
.stMainBlockContainer { padding: 1rem 2rem 2rem; max-width: 1480px; }
.stAppHeader { background: transparent; height: 2.4rem; }
.stMainBlockContainer > div > .stVerticalBlock { gap: .6rem; }
.st-key-shell { display: none; }
.x-brand { font-weight: 700; font-size: 1.02rem; color: var(--x-ink); white-space: nowrap; }
.x-title { display: flex; align-items: baseline; gap: .7rem; white-space: nowrap; overflow: hidden; }
.x-title b { font-size: 1.25rem; color: var(--x-ink); }
.x-title span { color: var(--x-faint); font-size: .85rem; overflow: hidden; text-overflow: ellipsis; }
.x-board, .x-blank { display: grid; grid-template-columns: repeat(5, minmax(0, 1fr)); gap: .6rem; }
[data-testid='stMarkdownContainer']:has(> .x-board, > .x-blank, > .x-strip) { margin-bottom: 0; }
.x-card { border: 1px solid var(--x-line); border-radius: 10px; padding: .5rem .8rem .45rem; min-width: 0; }
.x-card header { display: flex; justify-content: space-between; align-items: center; gap: .4rem; }
.x-card .x-name { color: var(--x-faint); font-size: .85rem; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.x-card .x-kind { color: var(--x-faint); font-size: .68rem; border: 1px solid var(--x-line); border-radius: 8px; padding: 0 .4rem; }
.x-card .x-value { color: var(--x-ink); font-size: 1.5rem; font-weight: 650; line-height: 1.35; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.x-card .x-note { color: var(--x-faint); font-size: .78rem; line-height: 1.25; min-height: 1.25em; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; font-variant-numeric: tabular-nums; }
.x-better { color: var(--x-better); font-weight: 600; } .x-worse { color: var(--x-worse); font-weight: 600; }
.x-strip { display: flex; gap: 1.2rem; color: var(--x-faint); font-size: .8rem; min-height: 1.3em; align-items: center;
  font-variant-numeric: tabular-nums; overflow: hidden; white-space: nowrap; }
.st-key-cards, .st-key-strips { display: grid; grid-template-columns: minmax(0, 1fr); }
.st-key-cards > *, .st-key-strips > * { grid-area: 1 / 1; min-width: 0; width: 100%; }
.st-key-cards:has(.x-blank) .x-board, .st-key-strips:has(.x-over) .x-strip:not(.x-over) { visibility: hidden; }
.x-strip .x-status { margin-left: auto; flex: 0 1 auto; overflow: hidden; text-overflow: ellipsis; cursor: help; }
.x-strip[data-compared] { white-space: normal; }
.x-strip b { color: var(--x-ink); }
.x-bar { flex: 0 0 110px; height: 4px; border-radius: 2px; background: var(--x-line); overflow: hidden; }
.x-bar i { display: block; height: 100%; background: var(--x-kept); }
[title] { text-decoration-skip-ink: none; }
abbr.x-term { text-decoration: underline dotted var(--x-faint); text-underline-offset: 3px; cursor: help; }
.x-label { color: var(--x-faint); font-size: .88rem; white-space: nowrap; }
.st-key-undo kbd, .st-key-redo kbd { display: none; }
.x-head { display: flex; gap: .7rem; align-items: center; white-space: nowrap; overflow: hidden; }
.x-head span { overflow: hidden; text-overflow: ellipsis; flex: 0 9999 auto; min-width: 3rem; }
.x-head b { display: flex; min-width: 0; } .x-head b i { font-style: normal; overflow: hidden; text-overflow: ellipsis; } .x-head b i + i { flex: none; }
.x-head b { font-size: 1.02rem; color: var(--x-ink); } .x-head span { color: var(--x-faint); font-size: .85rem; }
.st-key-changed { position: relative; } .x-before { display: none; }
.stElementContainer:has(> .stHtml > .x-before) { position: absolute; top: -.35rem; right: 0; z-index: 1; width: auto; }
.stApp:has(.x-board[data-live]) .x-before { display: block; color: var(--x-ink); background: var(--x-line); border-radius: 8px; padding: .1rem .6rem; font-size: .8rem; }
.stApp:has(.x-board[data-live]) .st-key-changed > :not(:has(.x-before)) { opacity: .45; }
.x-tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(96px, 1fr)); gap: .6rem; }
.x-tile { text-align: center; font-size: .76rem; color: var(--x-faint); min-width: 0; }
.x-tile img { width: 64px; height: 64px; image-rendering: pixelated; border: 1px solid var(--x-line); border-radius: 8px; background: #fff; }
.x-tile img.x-lines { width: 100%; height: 58px; background: none; image-rendering: auto; }
.x-tile pre { margin: 0; white-space: pre-wrap; word-break: break-word; font-size: .72rem; color: var(--x-ink); background: none;
  border: 1px solid var(--x-line); border-radius: 8px; padding: .3rem; max-height: 84px; overflow: hidden; text-align: left; }
.x-tile div { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.x-wide.x-table pre { columns: 2; max-height: 130px; } .x-wide.x-text pre { max-height: 110px; }
.x-wide { grid-template-columns: repeat(auto-fill, minmax(260px, 1fr)); }
[data-testid='stCaptionContainer'] { opacity: 1; } [data-testid='stCaptionContainer'] :is(p, li, strong) { color: var(--x-faint); }
.stButtonGroup [aria-checked='true'] p, .stButtonGroup [aria-pressed='true'] p { color: color-mix(in srgb, var(--x-kept) 75%, var(--x-ink)); }
[data-testid='stBaseButton-primary']:not(:disabled):is(:hover, :focus-visible, :active) { background: color-mix(in srgb, var(--x-kept) 85%, var(--x-ink)); }
[data-testid='stBaseButton-primary']:not(:disabled) *, [data-testid='stMultiSelectTagsContainer'] > span * { color: var(--x-on); }
.stSelectbox input { text-overflow: ellipsis; }
body :is(button, summary, a):focus-visible:focus-visible { outline: 2px solid var(--x-kept); outline-offset: 1px; box-shadow: none; }
[class*='st-key-row-'] .stButtonGroup > div button { min-height: 2.5rem; }
iframe { border: 1px solid var(--x-line) !important; border-radius: 10px; }
.x-card .x-seen { white-space: nowrap; }
@media (max-width: 1500px) { .x-card .x-note { font-size: .73rem; } }
@media (max-width: 1300px) { .stElementContainer:has(.x-brand) { display: none; } }
@media (max-width: 1100px) {
  .stMainBlockContainer { padding: .5rem 1rem 1.5rem; } .x-title { display: none; }
  .st-key-model { max-width: 180px; }
  .st-key-undo p, .st-key-redo p, .st-key-open-parent p { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  .st-key-speed-shown [data-testid='stHorizontalBlock'] { flex-direction: column; } .st-key-speed-shown [data-testid='stColumn'] { width: 100%; flex: none; }
  .x-label { font-size: .8rem; } .x-head { gap: .5rem; }
  .stButtonGroup > div button { padding: 0 .5rem; font-size: .82rem; min-height: 1.9rem; } .stButton button { padding: 0 .6rem; font-size: .85rem; }
  .x-card { padding: .35rem .6rem; } .x-card .x-value { font-size: 1.2rem; } .x-card .x-kind { font-size: .6rem; padding: 0 .25rem; }
  .x-card .x-note { white-space: normal; max-height: 2.5em; }
}
"""
