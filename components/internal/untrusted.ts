/**
 * Text that a stranger may have written, made harmless for a comment. Inside a fenced block Markdown has no meaning: no link,
 * image, mention, HTML or heading. What could end the block, hide text or turn it around is taken out.
 *
 * @param most lines that are shown, the first ones. Default: as many as a comment has room for.
 */
export function fenced(lines: readonly string[], language = "text", most = blockLines): string[] {
    const wrapped = lines.flatMap((line) => visible(line).split("\n")).flatMap(wrap);
    const left = wrapped.length - most;
    const body = left > 0 ? [...wrapped.slice(0, most), `... and ${left} more lines`] : wrapped;
    const longest = Math.max(2, ...body.flatMap((line) => [...line.matchAll(/`+/g)].map(([run]) => run.length)));
    const fence = "`".repeat(longest + 1);
    return [`${fence}${language}`, ...body, fence];
}

/** A short text within a line of our own; where anything of it could mean something, as code, in which nothing does. */
export function inlined(text: string): string {
    const line = visible(text).replace(/\s+/g, " ").trim().slice(0, 400);
    if (!/[`<>[\]&@#\\]|:\/\/|www\./i.test(line)) {
        return line;
    }
    const fence = "`".repeat(Math.max(0, ...[...line.matchAll(/`+/g)].map(([run]) => run.length)) + 1);
    return `${fence} ${line} ${fence}`;
}

/** A comment of GitHub's may have 65,536 characters; six blocks of this size stay below. */
const blockLines = 60;
const lineLength = 120;

/** As wide as a comment shows without scrolling; what goes on is indented. */
function wrap(line: string): string[] {
    const text = line.slice(0, 8 * lineLength);
    const indent = `${/^ */.exec(text)?.[0] ?? ""}    `.slice(0, 40);
    const lines: string[] = [];
    for (let rest = text; rest !== "" || lines.length === 0;) {
        const room = lines.length === 0 ? lineLength : lineLength - indent.length;
        const space = rest.lastIndexOf(" ", room);
        const at = rest.length <= room ? rest.length : space > room / 2 ? space : room;
        lines.push(lines.length === 0 ? rest.slice(0, at) : indent + rest.slice(0, at));
        rest = rest.slice(at).replace(/^ /, "");
    }
    return lines;
}

/** Without control characters, and without the marks that make a text read otherwise than it is (Unicode TR 36). */
function visible(text: string): string {
    return text
        .replace(/\r\n?/g, "\n")
        .replace(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g, (mark) =>
            mark === "\t" ? "    " : "\ufffd",
        );
}
