// Keeps the page fresh without reloading it. Without this script all of it works the same, by forms and redirects.
//
// The server makes every piece of HTML. What comes back replaces what is here by id: elements marked data-live while the
// page only looks, and those marked data-swap or data-said too after a form was sent. What was typed is no part of the
// HTML, so a form that came back unchanged keeps it.
"use strict";
{
  const OFTEN = 1000, SELDOM = 5000, PATIENCE = 30000; // milliseconds
  const UNREACHABLE = "The service could not be reached. Maybe nothing was saved; please try again.";
  const LIVE = "[data-live]", ALL = "[data-live], [data-swap], [data-said]";
  let eager = 0; // look often until then: a play is counted within a second or so
  let timer, sending = 0;

  // Anything else is a server, or something before it, that is not well.
  const isPage = (answer) => answer.status === 200 || answer.status === 403;

  // Each page has new ids for the plays to come. Nothing that may be under a finger is replaced for that alone.
  const withoutPlays = (element) => element.outerHTML.replace(/name="play_id" value="[^"]*"/g, "");
  const isSame = (one, other) => withoutPlays(one) === withoutPlays(other);

  const isToMend = (element) => element.querySelector("[aria-invalid]") !== null;

  const parse = (text) => new DOMParser().parseFromString(text, "text/html");

  const adopt = (text, selector) => {
    const fresh = parse(text);
    document.title = fresh.title;
    if (!fresh.getElementById("welcome")) { // logged out meanwhile: the page says why
      document.body.replaceWith(document.adoptNode(fresh.body));
      document.getElementById("main")?.focus();
      return;
    }
    for (const old of document.querySelectorAll(selector)) {
      const made = fresh.getElementById(old.id);
      if (!made || (selector === LIVE ? isSame(old, made) || isToMend(old) : old.outerHTML === made.outerHTML)) continue;
      const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
      const open = [...old.querySelectorAll("details[open]")].map((details) => details.id);
      // A region that says something must stay the same element, or nobody hears it.
      if (old.getAttribute("role") === "status" || old.hasAttribute("data-said")) old.replaceChildren(...made.childNodes);
      else old.replaceWith(document.adoptNode(made));
      for (const id of open) document.getElementById(id)?.setAttribute("open", "");
      if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    }
  };

  const later = () => {
    clearTimeout(timer);
    if (!document.getElementById("welcome")) return;
    const travelling = document.querySelector("[data-travelling]");
    timer = setTimeout(look, Date.now() < eager || travelling ? OFTEN : SELDOM);
  };

  const look = async () => {
    if (!document.hidden && !sending) {
      try {
        const answer = await fetch(location.pathname + location.search, { headers: { "X-Watching": "1" }, signal: AbortSignal.timeout(10000) });
        const text = await answer.text();
        if (!sending && isPage(answer)) adopt(text, LIVE);
      } catch { /* the next look may find it */ }
    }
    later();
  };

  const say = (text) => {
    const said = document.createElement("p");
    said.className = "note bad";
    said.textContent = text;
    document.getElementById("general").replaceChildren(said);
  };

  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (form.classList.contains("leave")) return;
    event.preventDefault();
    if (form.dataset.sending) return;
    form.dataset.sending = "1";
    sending += 1;
    const focused = document.activeElement?.id;
    try {
      const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)), signal: AbortSignal.timeout(PATIENCE) });
      const text = await answer.text();
      if (!isPage(answer)) throw new Error(parse(text).querySelector("[role=alert]")?.textContent ?? UNREACHABLE);
      adopt(text, ALL);
      if (location.search) history.replaceState(null, "", "/"); // it shows the first of each list again
      eager = Date.now() + 5000;
      const wrong = document.querySelector("[aria-invalid=true]");
      if (wrong) {
        wrong.focus();
        wrong.form.scrollIntoView({ block: "nearest" }); // what is wrong is said below the field
      } else if (focused && document.activeElement === document.body) document.getElementById(focused)?.focus();
    } catch (error) {
      say(error.constructor === Error ? error.message : UNREACHABLE);
    }
    sending -= 1;
    delete form.dataset.sending;
    later();
  });

  document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
  later();
}
