import * as readline from "node:readline";
import { wrap } from "../tools/table";

const widthWithoutTerminal = 100;

/** What a dialogue needs of a terminal. */
export interface Terminal {
    say(line: string, paint?: (text: string) => string): void;
    ask(prompt: string): Promise<string>;
}

/** The person went away, by Ctrl-C or Ctrl-D. */
export class Interrupted extends Error {}

/** Words in lines of the terminal's width, all indented as far as the first is. */
export function say(line: string, paint = (text: string) => text): void {
    const indent = /^ */.exec(line)?.[0] ?? "";
    const width = (process.stdout.columns || widthWithoutTerminal) - indent.length;
    console.log(
        wrap(line.trimStart(), width)
            .map((part) => indent + paint(part))
            .join("\n"),
    );
}

/**
 * Calls `use` with the terminal that this process has. Ctrl-C and Ctrl-D end it at once, whatever it is waiting for.
 *
 * @param interrupted is called then, in place of the rest.
 */
export async function withTerminal<T>(interrupted: () => void, use: (terminal: Terminal) => Promise<T>): Promise<T> {
    const lines = readline.createInterface({ input: process.stdin, output: process.stdout });
    const answers = lines[Symbol.asyncIterator]();
    let done = false;
    lines.once("close", () => done || interrupted());
    try {
        return await use({
            say,
            ask: async (prompt) => {
                lines.setPrompt(prompt);
                lines.prompt();
                const next = (await answers.next()) as IteratorResult<string, undefined>;
                if (next.done === true) {
                    throw new Interrupted();
                }
                return next.value.trim();
            },
        });
    } finally {
        done = true;
        lines.close();
    }
}
