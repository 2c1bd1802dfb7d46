// Sets the theme that the person has chosen before anything is drawn. A classic script in the head of every page.
(() => {
  try {
    const theme = localStorage.getItem("bloodcell-desk:theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // a browser that forbids localStorage follows the system
  }
})();
