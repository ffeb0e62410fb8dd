// What a person can see and press, by its words. Loaded into each page before
// its own scripts, in a world of its own.
"use strict";
(() => {
  const norm = (s) => (s || "").replace(/\s+/g, " ").trim();
  const shown = (e) => e.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && e.getClientRects().length > 0;
  const all = (root, what) => [...root.querySelectorAll(what)].filter(shown);
  const words = (e) => norm(e.getAttribute("aria-label") || (e.tagName === "INPUT" ? e.value : e.innerText) || e.title);

  // places are where something is looked for, the nearest to the eye first: a
  // dialog hides all else, and a page's content comes before its frame.
  function places(within) {
    const dialog = all(document, "[role=dialog]").pop();
    const roots = dialog ? [dialog] : all(document, "main").concat(document.body);
    if (!within) return roots;
    const found = [];
    for (const root of roots) {
      for (const head of all(root, "h1, h2, h3, legend, [aria-label]")) {
        if (words(head) === within) found.push(head.matches("[aria-label]:not(h1):not(h2):not(h3)") ? head : head.closest("fieldset, section, form, .card"));
      }
      for (const row of all(root, "tbody tr")) {
        if ([...row.cells].some((c) => words(c) === within)) found.push(row);
      }
      if (found.length) break;
    }
    return found.filter(Boolean);
  }

  function only(list, what) {
    if (list.length !== 1) throw new Error(`${list.length} of ${what}`);
    return list[0];
  }

  function find(what, within, pick) {
    const roots = places(within);
    if (!roots.length) throw new Error(`nothing is headed ${within}`);
    for (const root of roots) {
      const list = pick(root);
      if (list.length) return only(list, what);
    }
    throw new Error(`0 of ${what}`);
  }

  const pressable = "a[href], button, summary, [role=button], [role=tab]";
  const api = {
    norm, shown, words,
    // A count in brackets, Commit (3), is no part of a name.
    pressable: (label, within) => find(`what is to be pressed and says ${label}`, within,
      (root) => all(root, pressable).filter((e) => words(e).replace(/ \(\d+\)$/, "") === label && !e.disabled)),
    control: (label, within) => find(`fields called ${label}`, within, (root) => {
      const list = all(root, "label").filter((l) => norm((l.querySelector(":scope > span") || l).innerText) === label && l.control);
      return list.map((l) => l.control).concat(all(root, "input[aria-label], select[aria-label], textarea[aria-label]").filter((e) => words(e) === label));
    }),
    // middle brings an element into view and says where to press.
    middle: (e) => {
      e.scrollIntoView({ block: "center", inline: "center", behavior: "instant" });
      const r = e.getClientRects()[0];
      return { x: r.x + r.width / 2, y: r.y + r.height / 2 };
    },
    // loads reports whether pressing an element leaves for another page.
    loads: (e) => {
      const inside = e.closest("a, button");
      if (!inside || inside.matches("[hx-get], [hx-post]")) return false;
      return inside.tagName === "A" ? !inside.getAttribute("href").startsWith("#") : Boolean(inside.form) && inside.type === "submit";
    },
    beside: (control) => {
      const by = (control.getAttribute("aria-describedby") || "").split(" ").filter(Boolean).map((id) => document.getElementById(id));
      return by.filter((e) => e && e.getAttribute("role") === "alert" && shown(e)).map((e) => norm(e.innerText)).join(" ");
    },
    text: (within) => {
      const list = within ? places(within) : [document.body];
      if (!list.length) throw new Error(`nothing is headed ${within}`);
      return norm(list.map((e) => e.innerText).join(" "));
    },
  };
  Object.defineProperty(globalThis, "seen", { value: api, configurable: true });
})();
