export { display } from "./display.js";
