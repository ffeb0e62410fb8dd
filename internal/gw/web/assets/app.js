// What the pages cannot do by themselves. Everything works without it but for
// the choice of an appearance.
"use strict";
document.addEventListener("click", (e) => {
  const pick = e.target.closest("[data-theme-set]");
  if (pick) {
    const theme = pick.dataset.themeSet;
    document.documentElement.dataset.theme = theme;
    document.cookie = "theme=" + theme + "; path=/; secure; samesite=strict; max-age=" + (theme ? 31536000 : 0);
  }
  const open = document.querySelector("details.who[open]");
  if (open && !open.contains(e.target)) open.removeAttribute("open");
});
document.addEventListener("keydown", (e) => {
  if (e.key !== "Escape") return;
  const cancel = document.querySelector(".dialog .actions a.button");
  if (cancel) cancel.click();
});
// A dialog keeps the keyboard: from its last field back to its first.
function trap() {
  const dialog = document.querySelector(".dialog");
  if (!dialog) return;
  const first = dialog.querySelector("[aria-invalid], input:not([type=hidden]), select, textarea, button, a");
  if (first) first.focus();
  dialog.addEventListener("keydown", (e) => {
    if (e.key !== "Tab") return;
    const all = [...dialog.querySelectorAll("input:not([type=hidden]), select, textarea, button, a[href]")].filter((x) => !x.disabled && x.offsetParent);
    if (!all.length) return;
    const last = all[all.length - 1];
    if (e.shiftKey && document.activeElement === all[0]) { e.preventDefault(); last.focus(); }
    else if (!e.shiftKey && document.activeElement === last) { e.preventDefault(); all[0].focus(); }
  });
}
document.addEventListener("DOMContentLoaded", trap);
// Parts of a form that belong to one choice alone are shown with it.
function follow() {
  for (const part of document.querySelectorAll("[data-when]")) {
    const [name, ...values] = part.dataset.when.split(" ");
    const fields = [...document.getElementsByName(name)];
    const value = fields.length === 1 && fields[0].type === "checkbox" ? (fields[0].checked ? "yes" : "no")
      : fields.some((f) => f.type === "radio") ? (fields.find((f) => f.checked) || {}).value : (fields[0] || {}).value;
    part.hidden = !values.includes(value);
  }
}
document.addEventListener("DOMContentLoaded", follow);
document.addEventListener("change", follow);
// What scrolls by itself is a stop of the keyboard, as long as it does.
function reachable() {
  for (const part of document.querySelectorAll(".scroll, pre")) {
    if (part.scrollWidth > part.clientWidth) part.tabIndex = 0;
    else part.removeAttribute("tabindex");
  }
}
document.addEventListener("DOMContentLoaded", reachable);
document.addEventListener("htmx:afterSettle", reachable);
addEventListener("resize", reachable);
