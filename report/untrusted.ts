/**
 * Text that a stranger may have written, made harmless for a comment. Inside a fenced block Markdown has no meaning: no link,
 * image, mention, HTML or heading. What could end the block, hide text or turn it around is taken out.
 */
export function fenced(lines: readonly string[], language = "text"): string[] {
    const shown = lines.flatMap((line) => visible(line).split("\n")).slice(0, blockLines).map((line) => (line.length > lineLength ? `${line.slice(0, lineLength)} ...` : line));
    const left = lines.length - shown.length;
    const body = left > 0 ? [...shown, `... and ${left} more`] : shown;
    const longest = Math.max(2, ...body.flatMap((line) => [...line.matchAll(/`+/g)].map(([run]) => run.length)));
    const fence = "`".repeat(longest + 1);
    return [`${fence}${language}`, ...body, fence];
}

/** A comment of GitHub's may have 65,536 characters; six blocks of this size stay below. */
const blockLines = 40;
const lineLength = 240;

/** Without control characters, and without the marks that make a text read otherwise than it is (Unicode TR 36). */
function visible(text: string): string {
    return text.replace(/\r\n?/g, "\n").replace(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g, (mark) => (mark === "\t" ? "    " : "\ufffd"));
}
