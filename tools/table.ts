/** One line of the doctor's answer. Without a version the thing is missing, and `where` is the fix. */
export interface Row {
    readonly name: string;
    readonly version?: string;
    readonly origin?: string;
    readonly where: string;
}

const GAP = "  ";

/** Aligned where the terminal is wide enough for the longest line; else `where` goes on a line of its own, and nothing is aligned where even the rest is too long. */
export function renderTable(rows: readonly Row[], columns: number): string[] {
    const cells = rows.map((row) => [row.name, row.version ?? "missing", row.origin ?? "", row.where] as const);
    const width = (index: 0 | 1 | 2): number => Math.max(...cells.map((row) => row[index].length));
    const head = (row: (typeof cells)[number]): string => [0, 1, 2].map((index) => row[index as 0 | 1 | 2].padEnd(width(index as 0 | 1 | 2))).join(GAP);
    const oneLine = cells.map((row) => `${head(row)}${GAP}${row[3]}`.trimEnd());
    if (oneLine.every((line) => line.length <= columns)) {
        return oneLine;
    }
    const heads = cells.map((row) => head(row).trimEnd());
    const aligned = heads.every((line) => line.length <= columns);
    return cells.flatMap((row, index) => [
        aligned ? (heads[index] ?? "") : row.slice(0, 3).filter(Boolean).join(GAP),
        ...wrap(row[3], columns - 4).map((line) => `    ${line}`),
    ]);
}

/** Columns that a text needs beside its name; with fewer left it goes below it. */
const LEAST_BESIDE = 40;

/** A name and what is said of it: beside each other where the terminal is wide enough, below each other where it is not. */
export function renderPair(name: string, text: string, nameWidth: number, columns: number): string[] {
    const beside = columns - nameWidth - GAP.length;
    if (beside < LEAST_BESIDE) {
        return [...(name === "" ? [] : [name]), ...wrap(text, columns - 2).map((line) => `  ${line}`)];
    }
    return wrap(text, beside).map((line, index) => `${(index === 0 ? name : "").padEnd(nameWidth)}${GAP}${line}`);
}

/** Breaks at spaces what is too long. A path has none and stays whole, so that it can be copied. */
export function wrap(text: string, columns: number): string[] {
    if (text.length <= columns) {
        return [text];
    }
    const lines: string[] = [];
    for (const word of text.split(/ +/)) {
        const last = lines.at(-1);
        if (last !== undefined && last.length + 1 + word.length <= columns) {
            lines[lines.length - 1] = `${last} ${word}`;
        } else {
            lines.push(word);
        }
    }
    return lines;
}
