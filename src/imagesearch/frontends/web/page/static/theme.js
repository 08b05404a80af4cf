/** Light, dark, or like the system; the choice stays in this browser. */

const CHOICES = ["system", "light", "dark"];
const NAMES = { system: "like the system", light: "light", dark: "dark" };

/** Make the button go through the choices. */
export function setUpTheme() {
  const button = document.getElementById("theme");
  let choice = document.documentElement.dataset.theme ?? "system";
  const show = () => {
    if (choice === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = choice;
    button.title = `Colours: ${NAMES[choice]}`;
    button.setAttribute("aria-label", button.title);
  };
  button.addEventListener("click", () => {
    choice = CHOICES[(CHOICES.indexOf(choice) + 1) % CHOICES.length];
    keep(choice);
    show();
  });
  show();
}

/** @param {string} choice */
function keep(choice) {
  try {
    localStorage.setItem("theme", choice);
  } catch (error) {
    console.info("The choice of colours is not kept:", error.message); // storage is switched off
  }
}
