// The softphone panel: wires the gateway's events to the page.

import { feedback, listen, pause, session } from "./link.js";
import { fresh, language, take } from "./story.js";
import { Stage } from "./stage.js";
import { Talk } from "./talk.js";
import { pick, words } from "./words.js";

const $ = (id) => document.getElementById(id);

const panel = {
  story: fresh(),
  // The gateway's clock against ours.
  skew: 0,
  // Nothing is drawn until everything that was waiting has come.
  live: false,
  online: false,
  locked: false,
  words: null,
  now() { return Date.now() + this.skew; },
};

const stage = new Stage(panel, act);
const talk = new Talk(panel);

/** What the rep does with a tip shows at once, and is told to the gateway. */
function act(tip, action) {
  tip.shown = true;
  if (action !== "shown") tip.done = action;
  feedback(tip.id, action);
  draw();
}

function onEvent(name, data) {
  if (name === "live") {
    panel.skew = data.now - Date.now();
    panel.live = true;
    panel.online = true;
  }
  panel.story = take(panel.story, name, data);
  if (panel.live) schedule();
}

let scheduled = false;

/** Draws once for all events that come together. A hidden page draws too, only later. */
function schedule() {
  if (scheduled) return;
  scheduled = true;
  setTimeout(() => { scheduled = false; draw(); }, 0);
}

function speak(code) {
  if (document.documentElement.lang === code && panel.words) return;
  document.documentElement.lang = code;
  panel.words = words(code);
  for (const element of document.querySelectorAll("[data-word]")) {
    element.textContent = panel.words[element.dataset.word];
  }
  for (const element of document.querySelectorAll("[data-word-label]")) {
    element.setAttribute("aria-label", panel.words[element.dataset.wordLabel]);
  }
  stage.forget();
  talk.forget();
}

function draw() {
  const { story } = panel;
  speak(pick(language(story)));
  const state = panel.locked ? "locked" : panel.live ? story.state : "connecting";
  document.body.dataset.state = state;
  document.body.dataset.link = panel.online || panel.locked ? "online" : "offline";
  text($("state"), panel.words[state]);
  text($("people"), [story.customer, story.rep].filter(Boolean).join(" · "));
  text($("link"), panel.locked ? "" : panel.words[panel.online ? "online" : "offline"]);
  stage.draw(state);
  talk.draw();
}

/** Writes only what has changed, so that nothing is announced twice. */
function text(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

function onLost() {
  panel.online = false;
  schedule();
}

function onOpen() {
  panel.live = false;
  panel.locked = false;
}

async function connect() {
  for (;;) {
    try {
      if (await session()) break;
      panel.locked = true;
      draw();
      return;
    } catch {
      onLost();
      await pause(2000);
    }
  }
  panel.locked = false;
  listen({ onEvent, onOpen, onLost, onRefused: () => pause(2000).then(connect) });
}

addEventListener("hashchange", () => location.reload());
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const action = { u: "used", d: "dismissed", escape: "dismissed" }[event.key.toLowerCase()];
  if (action && stage.act(action)) event.preventDefault();
});
setInterval(() => stage.tick(), 250);
draw();
connect();
