// The part a rep looks at: the current tip, or calm, or the summary of the call; and the timer.

import { active, clock, earlier } from "./story.js";

const $ = (id) => document.getElementById(id);

export class Stage {
  #panel;
  #onAct;
  #current = null;
  #earlier = null;
  #summary = null;
  #onScreen = false;

  constructor(panel, onAct) {
    this.#panel = panel;
    this.#onAct = onAct;
    $("used").addEventListener("click", () => this.act("used"));
    $("dismiss").addEventListener("click", () => this.act("dismissed"));
    $("tip-quote").addEventListener("click", () => this.#showQuoted());
    // A tip counts as shown only when the rep could see it: most of the card in view.
    const watch = new IntersectionObserver(([entry]) => {
      this.#onScreen = entry.intersectionRatio >= 0.5;
      this.#tellShown();
    }, { threshold: [0, 0.5, 1] });
    watch.observe($("tip"));
    document.addEventListener("visibilitychange", () => this.#tellShown());
    $("earlier").open = matchMedia("(min-width: 56rem)").matches;
  }

  /** Forgets what is drawn, for the words have changed. */
  forget() {
    this.#current = null;
    this.#earlier = null;
    this.#summary = null;
  }

  /** Acts on the current tip; false when there is none. */
  act(action) {
    const tip = this.#current;
    if (!tip) return false;
    const inside = $("tip").contains(document.activeElement);
    this.#onAct(tip, action);
    // The button is gone: keep the keyboard where it was.
    if (inside) $("stage").focus({ preventScroll: true });
    return true;
  }

  draw(state) {
    const { story } = this.#panel;
    const now = this.#panel.now();
    const [tip, ...more] = state === "running" ? active(story, now) : [];
    if (tip !== this.#current) this.#show(tip ?? null);
    $("tip-more").textContent = more.length > 0 ? this.#panel.words.more(more.length) : "";
    const summary = state === "ended" && story.summary;
    $("summary").hidden = !summary;
    $("calm").hidden = Boolean(tip || summary);
    if (!tip && !summary) this.#calm(state);
    if (summary) this.#summarise(summary);
    this.#list(earlier(story, now));
    this.tick();
  }

  /** The clocks: the call's, and the tip's. */
  tick() {
    const { story, words } = this.#panel;
    const ended = story.summary?.duration_ms;
    const elapsed = story.startedAt === null ? null : ended ?? this.#panel.now() - story.startedAt;
    $("timer").textContent = elapsed === null ? "" : clock(elapsed);
    const tip = this.#current;
    if (!tip || !words) return;
    const left = tip.expires_at - this.#panel.now();
    if (left <= 0) return this.draw(document.body.dataset.state);
    const seconds = Math.ceil(left / 1000);
    $("tip-left").textContent = words.seconds(seconds);
    $("tip-left").setAttribute("aria-label", words.left(seconds));
    const whole = Math.max(1, tip.expires_at - tip.spoken_at);
    $("tip-bar").style.setProperty("--left", Math.min(1, left / whole).toFixed(4));
  }

  #show(tip) {
    this.#current = tip;
    $("tip").hidden = !tip;
    if (!tip) return;
    const { words } = this.#panel;
    $("tip").lang = tip.language;
    $("tip-kind").textContent = words[tip.objection ?? "delivery"];
    $("tip-title").textContent = tip.title;
    $("tip-say").textContent = tip.say;
    $("tip-ask").textContent = tip.ask;
    $("tip-rule").textContent = `${tip.rule} · ${tip.playbook} ${tip.playbook_version}`;
    this.#quote(tip);
    replay($("tip"));
    $("announce").textContent =
      `${$("tip-kind").textContent}. ${words.say}: ${tip.say} ${words.ask}: ${tip.ask}`;
    this.#tellShown();
  }

  /** Why the tip came: the words it answers. */
  #quote(tip) {
    const { story, words } = this.#panel;
    const said = story.utterances.find((utterance) => utterance.id === tip.utterance_id);
    $("tip-quote").hidden = !said;
    $("tip-when").textContent = said ? words.at(clock(said.start_ms)) : "";
    if (!said) return;
    const quote = element("q", said.text ?? words.erased);
    quote.lang = said.language;
    $("tip-quote").replaceChildren(quote);
  }

  #showQuoted() {
    const line = document.querySelector(`[data-utterance="${this.#current?.utterance_id}"]`);
    if (!line) return;
    line.scrollIntoView({ block: "center" });
    replay(line);
  }

  #tellShown() {
    const tip = this.#current;
    const visible = this.#onScreen && document.visibilityState === "visible";
    if (tip && !tip.shown && visible && tip.expires_at > this.#panel.now()) {
      this.#onAct(tip, "shown");
    }
  }

  #calm(state) {
    const { words } = this.#panel;
    const [title, text] = {
      running: [words.listening, words.listeningText],
      locked: [words.lockedTitle, words.lockedText],
      connecting: [words.connecting, ""],
    }[state] ?? [words.noCall, words.noCallText];
    if ($("calm-title").textContent !== title) $("calm-title").textContent = title;
    if ($("calm-text").textContent !== text) $("calm-text").textContent = text;
  }

  #summarise(summary) {
    if (this.#summary === summary) return;
    this.#summary = summary;
    const { story, words } = this.#panel;
    const tips = [...story.tips.values()].filter((tip) => tip.shown);
    const used = tips.filter((tip) => tip.done === "used").length;
    const spoken = summary.conversation;
    const figures = [[words.duration, clock(summary.duration_ms)]];
    if (summary.next_step !== null) {
      figures.push([words.nextStep, summary.next_step ? words.agreed : words.missing]);
    }
    if (tips.length > 0) figures.push([words.tipsUsed, `${used} ${words.of} ${tips.length}`]);
    if (spoken) {
      figures.push([words.monologue, clock(spoken.longest_monologue_ms)]);
      figures.push([words.words, `${Math.round(spoken.rep_words_per_minute)} ${words.perMinute}`]);
      figures.push([words.interruptions, String(spoken.interruptions)]);
    }
    $("figures").replaceChildren(...figures.map(([name, value]) => {
      const row = document.createElement("div");
      row.append(element("dt", name), element("dd", value));
      return row;
    }));
    $("talk").hidden = !spoken;
    if (spoken) {
      const share = Math.round(spoken.talk_ratio * 100);
      $("talk-rep").textContent = `${share} %`;
      $("talk-customer").textContent = `${100 - share} %`;
      $("talk-bar").style.setProperty("--rep", spoken.talk_ratio.toFixed(3));
    }
    $("outcomes").replaceChildren(...(summary.objections ?? []).map((outcome) => {
      const row = element("li");
      const times = outcome.raised > 1 ? ` × ${outcome.raised}` : "";
      row.append(
        element("span", words[outcome.kind] + times),
        element("b", outcome.answered ? words.answered : words.open),
      );
      row.className = outcome.answered ? "answered" : "open";
      return row;
    }));
  }

  #list(tips) {
    const { words } = this.#panel;
    const drawn = tips.map((tip) => `${tip.id} ${tip.done}`).join();
    if (drawn === this.#earlier) return;
    this.#earlier = drawn;
    $("earlier").hidden = tips.length === 0;
    $("earlier-count").textContent = String(tips.length);
    $("earlier-tips").replaceChildren(...tips.map((tip) => {
      const row = element("li");
      const done = tip.done ?? "expired";
      const title = element("p", tip.title);
      title.lang = tip.language;
      row.className = done;
      row.append(element("span", words[tip.objection ?? "delivery"]), title, element("b", words[done]));
      return row;
    }));
  }
}

function element(name, content) {
  const made = document.createElement(name);
  if (content !== undefined) made.textContent = content;
  return made;
}

/** Starts an element's entrance again. */
function replay(element) {
  element.classList.remove("fresh");
  void element.offsetWidth;
  element.classList.add("fresh");
}
