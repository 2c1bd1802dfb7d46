// Says so when a script of the page could not be fetched, as while a computer changes from one network to another. A
// classic script in the head of every page, since modules are what may be missing.
addEventListener(
  "error",
  ({ target }) => {
    if (target instanceof HTMLScriptElement) document.getElementById("not-loaded").hidden = false;
  },
  { capture: true },
);
