/** One comparison: seconds of each round, both sides having taken turns. */
export interface Pair {
    what: string;
    against: string;
    ours: number[];
    theirs: number[];
}

export interface Circumstances {
    command: string;
    machine: string;
    date: string;
}

export function median(values: readonly number[]): number {
    const sorted = [...values].sort((a, b) => a - b);
    const middle = Math.floor(sorted.length / 2);
    return sorted.length % 2 === 1 ? (sorted[middle] ?? NaN) : ((sorted[middle - 1] ?? NaN) + (sorted[middle] ?? NaN)) / 2;
}

/** A table in Markdown that carries its own circumstances. */
export function table(pairs: readonly Pair[], { command, machine, date }: Circumstances): string[] {
    const cell = (values: readonly number[]) => `${median(values).toFixed(2)} s (${Math.min(...values).toFixed(2)}-${Math.max(...values).toFixed(2)})`;
    return [
        "# Speed",
        "",
        `\`${command}\`, ${date}, ${machine}. Median (least-most) of rounds in which both sides took turns.`,
        "",
        "| what | this program | against | that | ratio | difference |",
        "| --- | --- | --- | --- | --- | --- |",
        ...pairs.map(({ what, against, ours, theirs }) => {
            const [mine, other] = [median(ours), median(theirs)];
            return `| ${what} | ${cell(ours)} | ${against} | ${cell(theirs)} | ${(mine / other).toFixed(2)} | ${(mine - other).toFixed(2)} s |`;
        }),
    ];
}
