/** The page of pictures: puts its parts together. */

import { Grid } from "./grid.js";
import { byId } from "./dom.js";
import { Results } from "./results.js";
import { readState, urlOf } from "./state.js";
import { setUpTheme } from "./theme.js";

setUpTheme();
let state = readState(location);
const grid = new Grid(byId("grid"), (id) => urlOf({ ...state, view: id }));
let results = new Results(state);
grid.clear(30);
results.next().then((items) => grid.append(items));
