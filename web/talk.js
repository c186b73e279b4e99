// What was said, and how the customer felt about it.

import { draw as drawMood } from "./mood.js";
import { clock, mood } from "./story.js";

const $ = (id) => document.getElementById(id);
/** So close to the end, in pixels, still counts as reading the latest. */
const NEAR = 48;
/** A trend this slight is none. */
const STEADY = 0.1;

export class Talk {
  #panel;
  #lines = new Map();
  #callId = null;
  #follow = true;

  constructor(panel) {
    this.#panel = panel;
    const list = $("utterances");
    list.addEventListener("scroll", () => {
      this.#follow = list.scrollHeight - list.scrollTop - list.clientHeight < NEAR;
      if (this.#follow) $("latest").hidden = true;
    }, { passive: true });
    $("latest").addEventListener("click", () => {
      this.#follow = true;
      $("latest").hidden = true;
      list.scrollTo({ top: list.scrollHeight });
      list.focus({ preventScroll: true });
    });
    new ResizeObserver(() => { this.#stick(); if (panel.words) this.#mood(); }).observe(list);
  }

  /** Forgets what is drawn, for the words have changed. */
  forget() {
    this.#lines.clear();
    $("utterances").replaceChildren();
  }

  draw() {
    const { story } = this.#panel;
    if (story.callId !== this.#callId) {
      this.#callId = story.callId;
      this.#follow = true;
      this.forget();
    }
    const before = this.#lines.size;
    let previous = null;
    for (const utterance of story.utterances) {
      this.#line(utterance, previous);
      previous = utterance;
    }
    $("latest").hidden = this.#follow || (this.#lines.size === before && $("latest").hidden);
    this.#stick();
    this.#mood();
  }

  #line(utterance, previous) {
    const { story, words } = this.#panel;
    let line = this.#lines.get(utterance.id);
    if (!line) {
      line = document.createElement("li");
      line.dataset.utterance = utterance.id;
      line.append(who(utterance, words), said(utterance, words));
      this.#lines.set(utterance.id, line);
      const after = previous && this.#lines.get(previous.id);
      if (after) after.after(line);
      else $("utterances").prepend(line);
    }
    const again = previous?.speaker === utterance.speaker;
    line.className = again ? `${utterance.speaker} again` : utterance.speaker;
    const objections = story.insights.get(utterance.id)?.objections ?? [];
    if (objections.length > 0 && !line.querySelector("ul")) {
      const kinds = document.createElement("ul");
      for (const { kind } of objections) {
        kinds.append(Object.assign(document.createElement("li"), { textContent: words[kind] }));
      }
      line.append(kinds);
    }
  }

  #stick() {
    const list = $("utterances");
    if (this.#follow) list.scrollTop = list.scrollHeight;
  }

  #mood() {
    const { story, words } = this.#panel;
    const points = mood(story);
    const last = points.at(-1);
    const trend = !last || Math.abs(last.trend) < STEADY ? "steady" : last.trend > 0 ? "rising" : "falling";
    const now = last ? `${words[last.label]}, ${words[trend]}` : "";
    if ($("mood-now").textContent !== now) $("mood-now").textContent = now;
    $("mood").hidden = story.callId === null;
    $("transcript").hidden = story.callId === null;
    $("mood-line").setAttribute("aria-label", `${words.mood}: ${now}`);
    const length = story.utterances.at(-1)?.end_ms ?? 0;
    drawMood($("mood-line"), points, length, (point) =>
      `${clock(point.time)} ${point.objections.map((kind) => words[kind]).join(", ")}`);
  }
}

function who(utterance, words) {
  const who = document.createElement("p");
  who.className = "who";
  const time = document.createElement("time");
  time.textContent = clock(utterance.start_ms);
  const name = Object.assign(document.createElement("b"), { textContent: words[utterance.speaker] });
  who.append(name, time);
  return who;
}

function said(utterance, words) {
  const said = document.createElement("p");
  said.className = utterance.text === null ? "said erased" : "said";
  said.textContent = utterance.text ?? words.erased;
  said.lang = utterance.language;
  return said;
}
