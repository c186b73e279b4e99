// The panel's line to the gateway: session, events, feedback.

const EVENTS = ["snapshot", "live", "call", "utterance", "insight", "tip", "feedback", "tip-expired"];

/**
 * Changes the token in the address's fragment for a cookie, and takes it out of the address.
 * True when the rep is known; throws when the gateway cannot be reached.
 */
export async function session() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!token) return accepted(await fetch("/v1/session"));
  const answer = await fetch("/v1/session", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ token }),
  });
  if (answer.status < 500) history.replaceState(null, "", location.pathname + location.search);
  return accepted(answer);
}

function accepted(answer) {
  if (answer.ok) return true;
  if (answer.status < 500) return false;
  throw new Error(`the gateway answers ${answer.status}`);
}

/**
 * Listens to the rep's calls for good. The browser resumes by itself, with the id of the last
 * event; only a refusal ends its tries, and then `onRefused` is called.
 */
export function listen({ onEvent, onOpen, onLost, onRefused }) {
  const source = new EventSource("/v1/events");
  for (const name of EVENTS) {
    source.addEventListener(name, (event) => onEvent(name, JSON.parse(event.data)));
  }
  source.addEventListener("open", onOpen);
  source.addEventListener("error", () => {
    onLost();
    if (source.readyState === EventSource.CLOSED) onRefused();
  });
  return source;
}

/** Tells what the rep did with a tip; tries again for a while when the gateway is away. */
export async function feedback(tipId, action) {
  for (const wait of [500, 1000, 2000, 4000, 0]) {
    try {
      const answer = await fetch(`/v1/tips/${encodeURIComponent(tipId)}/feedback`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ action }),
        keepalive: true,
      });
      if (answer.status < 500) return answer.ok;
    } catch {
      // The network is away; the same feedback twice is still one event.
    }
    await pause(wait);
  }
  return false;
}

/** Waits so many milliseconds. */
export function pause(millis) {
  return new Promise((resolve) => setTimeout(resolve, millis));
}
