// Before anything is drawn, so that no light page flashes up for those who chose dark.
"use strict";
try {
  const chosen = localStorage.getItem("theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch (error) {
  console.info("The choice of colours is not kept:", error.message); // storage is switched off
}
