// Fetches the changing part every two seconds and replaces the sections that differ. Without it the page is simply still.
"use strict";
(() => {
  const EVERY_MS = 2000;
  const live = document.getElementById("live");
  const lost = document.getElementById("lost");
  let busy = false;

  function apply(html) {
    const fresh = new DOMParser().parseFromString(html, "text/html");
    for (const open of live.querySelectorAll("details[open]")) {
      const same = fresh.getElementById(open.id);
      if (same) same.open = true;
    }
    for (const section of fresh.querySelectorAll("[data-part]")) {
      const old = live.querySelector(`[data-part="${section.dataset.part}"]`);
      if (old && old.outerHTML !== section.outerHTML) old.replaceWith(document.importNode(section, true));
    }
  }

  async function refresh() {
    if (busy || document.hidden) return;
    busy = true;
    try {
      const answer = await fetch("/fragment", { signal: AbortSignal.timeout(5000), cache: "no-store" });
      if (answer.status === 401) return location.reload();
      if (!answer.ok) throw new Error(String(answer.status));
      apply(await answer.text());
      lost.hidden = true;
    } catch {
      lost.hidden = false;
    } finally {
      busy = false;
    }
  }

  setInterval(refresh, EVERY_MS);
  document.addEventListener("visibilitychange", refresh);
})();
