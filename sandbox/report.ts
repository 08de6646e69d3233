/** What the person at the terminal sees. One line per step, no cursor tricks, no colour when the output is a file. */

import { renderPair } from "../tools/table";

export { Problem } from "../tools/report";

const colour = process.stdout.isTTY === true && process.env.NO_COLOR === undefined;

const paint = (code: string, text: string): string => (colour ? `\u001b[${code}m${text}\u001b[0m` : text);
export const bold = (text: string): string => paint("1", text);
export const dim = (text: string): string => paint("2", text);
export const green = (text: string): string => paint("32", text);
export const red = (text: string): string => paint("31", text);

// A reader that has seen enough (`status | head`) is no reason to stop half way.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") {
        throw error;
    }
});

export function say(line = ""): void {
    process.stdout.write(`${line}\n`);
}

export function seconds(since: number): string {
    return `${((Date.now() - since) / 1000).toFixed(1)} s`;
}

/** «name    text»; below each other in a terminal that is too narrow for both. */
export function row(name: string, text: string): void {
    renderPair(name, text, 23, (process.stdout.columns || Infinity) - 2).forEach((line) => say(`  ${line}`));
}
