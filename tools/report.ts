/** What the person at the terminal sees: plain lines, and on a terminal one line of progress that overwrites itself. */

/** A failure that a person can act on: printed as it is, without a stack. */
export class Problem extends Error {
    override readonly name = "Problem";
}

/** `transient` lines tell progress; where they cannot be overwritten they come rarely. */
export type Report = (line: string, transient?: boolean) => void;

/** Progress goes to stderr when stdout carries a program's answer, such as `pulumi stack output --json`. */
export function terminalReport(stream: NodeJS.WriteStream = process.stdout): Report {
    let overwritable = false;
    return (line, transient = false) => {
        if (!stream.isTTY) {
            stream.write(`${line}\n`);
            return;
        }
        const shown = transient ? line.slice(0, (stream.columns || 80) - 1) : `${line}\n`;
        stream.write(`${overwritable ? "\r\u001b[K" : ""}${shown}`);
        overwritable = transient;
    };
}

/** How often progress is told: on a terminal it ticks, in a log it only shows that the build is alive. */
export const progressIntervalMs = (): number => (process.stdout.isTTY || process.stderr.isTTY ? 1_000 : 30_000);

export function clock(milliseconds: number): string {
    const seconds = Math.floor(milliseconds / 1000);
    const pad = (value: number): string => String(value).padStart(2, "0");
    return `${pad(Math.floor(seconds / 60))}:${pad(seconds % 60)}`;
}

/** Runs a command's main function: a `Problem` is shown without a stack, anything else is a fault of ours and keeps it. */
export function main(run: () => Promise<number>): void {
    run().then(
        (code) => {
            process.exitCode = code;
        },
        (error: unknown) => {
            console.error(error instanceof Problem ? error.message : error);
            process.exitCode = 1;
        },
    );
}
