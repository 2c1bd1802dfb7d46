// The frame of every page: the switch of the theme, and menus that close.

const STORED = "bloodcell-desk:theme";

function set_theme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    if (theme === "system") localStorage.removeItem(STORED);
    else localStorage.setItem(STORED, theme);
  } catch {
    // a browser that forbids localStorage: the theme lasts as long as the page
  }
}

for (const choice of document.querySelectorAll("[data-theme-choice]")) {
  choice.checked = (document.documentElement.dataset.theme ?? "system") === choice.value;
  choice.addEventListener("change", () => set_theme(choice.value));
}

for (const menu of document.querySelectorAll("details.menu-of-person")) {
  document.addEventListener("pointerdown", (event) => menu.contains(event.target) || (menu.open = false));
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
}
